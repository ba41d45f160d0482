package evaluate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
)

// ReadRun reads a run in TREC's form: query, Q0, document, rank, score, tag between blanks or tabs. The rank is
// ignored. Lines are refused by number, as *data.LineError, where trec_eval would read a wrong value in silence.
func ReadRun(file string, r io.Reader) (Run, error) {
	run := Run{}
	seen := map[[2]string]int{}
	err := eachLine(file, r, func(line int, fields []string) error {
		if len(fields) != 6 {
			return fmt.Errorf("found %d columns; query, Q0, document, rank, score and tag are needed", len(fields))
		}
		score, err := strconv.ParseFloat(fields[4], 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(score) { // out of range: infinite, or 0
			return fmt.Errorf("found the score %q; a number is allowed", fields[4])
		}
		key := [2]string{fields[0], fields[2]}
		if first, ok := seen[key]; ok {
			return fmt.Errorf("the document %q of the query %q is in line %d already", fields[2], fields[0], first)
		}
		seen[key] = line
		run[fields[0]] = append(run[fields[0]], Hit{Document: fields[2], Score: score})
		return nil
	})
	if err == nil && len(run) == 0 {
		err = fmt.Errorf("read %s: an empty run", file)
	}
	if err != nil {
		return nil, err
	}
	return run, nil
}

// ReadJudgments reads judgments in TREC's form: query, 0, document, grade.
func ReadJudgments(file string, r io.Reader) (data.Qrels, error) {
	qrels := data.Qrels{}
	err := eachLine(file, r, func(_ int, fields []string) error {
		if len(fields) != 4 {
			return fmt.Errorf("found %d columns; query, 0, document and grade are needed", len(fields))
		}
		grade, err := data.ParseGrade(fields[3])
		if err != nil {
			return err
		}
		return qrels.Judge(fields[0], fields[2], grade)
	})
	if err == nil && len(qrels) == 0 {
		err = fmt.Errorf("read %s: no judgments", file)
	}
	if err != nil {
		return nil, err
	}
	return qrels, nil
}

// eachLine calls each with the fields of every line that is not blank, without a byte-order mark.
func eachLine(file string, r io.Reader, each func(line int, fields []string) error) error {
	in := bufio.NewReader(r)
	for line := 1; ; line++ {
		text, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read %s:%d: %w", file, line, err)
		}
		if line == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		// Blanks of ASCII only: ids may contain others.
		fields := strings.FieldsFunc(text, func(c rune) bool { return c == ' ' || c >= '\t' && c <= '\r' })
		if len(fields) > 0 {
			if err := each(line, fields); err != nil {
				return &data.LineError{File: file, Line: line, Problem: err.Error()}
			}
		}
		if err != nil {
			return nil
		}
	}
}

// WriteRun writes a run in TREC's form, best first, queries in order of their ids.
func WriteRun(w io.Writer, run Run, p Precision, tag string) error {
	out := bufio.NewWriter(w)
	for _, query := range sortedKeys(run) {
		for i, h := range Rank(run[query], p) {
			if strings.ContainsAny(query+h.Document, " \t\r\n") {
				return fmt.Errorf("write a run: the id %q or %q has a blank and cannot be in a TREC file", query, h.Document)
			}
			fmt.Fprintf(out, "%s Q0 %s %d %s %s\n", query, h.Document, i+1, strconv.FormatFloat(h.Score, 'g', -1, 64), tag)
		}
	}
	return out.Flush()
}
