package evaluate

import (
	"bufio"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
)

// ReadRun reads a run in TREC's form: query, Q0, document, rank, score, tag between blanks or tabs. The rank is
// ignored. Lines are refused by number, as *data.LineError, where trec_eval would read a wrong value in silence.
func ReadRun(file string, r io.Reader) (Run, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	run, _, err := ParseRun(file, string(text))
	return run, err
}

// ParseRun is ReadRun of a text in memory, whose parts the run keeps: no string is made for a field. The tag is that of
// the first line.
func ParseRun(file, text string) (run Run, tag string, err error) {
	var (
		s       = strings.TrimPrefix(text, "\ufeff")
		all     = make([]Hit, 0, strings.Count(s, "\n")+1) // the hits of all queries, as in the file
		first   int                                        // where those of the query at hand begin
		current string
		fields  [6]string
	)
	run = Run{}
	keep := func() {
		if first == len(all) {
			return
		}
		hits := all[first:len(all):len(all)]
		if before, ok := run[current]; ok { // the query was interrupted by others
			hits = append(before, hits...)
		}
		run[current] = hits
		first = len(all)
	}
	err = eachLine(file, s, func(line string) error {
		n := split(line, fields[:])
		if n == 0 {
			return nil
		}
		if n != 6 {
			return fmt.Errorf("found %d columns; query, Q0, document, rank, score and tag are needed", n)
		}
		score, err := parseScore(fields[4])
		if err != nil {
			return err
		}
		if fields[0] != current {
			keep()
			current = fields[0]
		}
		if len(all) == 0 {
			tag = fields[5]
		}
		all = append(all, Hit{Document: fields[2], Score: score})
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	keep()
	if len(run) == 0 {
		return nil, "", fmt.Errorf("read %s: an empty run", file)
	}
	var seen documents
	for _, query := range sortedKeys(run) {
		if again, ok := seen.twice(run[query]); ok {
			return nil, "", repeated(file, s, query, again)
		}
	}
	return run, tag, nil
}

// parseScore reads a score: out of range it is infinite, or 0; NaN has no place in an order.
func parseScore(text string) (float64, error) {
	score, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(score) {
		return 0, fmt.Errorf("found the score %q; a number is allowed", text)
	}
	return score, nil
}

// documents is a set that is used again for every query.
type documents struct {
	seed  maphash.Seed
	table []int32 // places of hits + 1, by hash; 0 is free
}

// twice returns a document that two of the hits have.
func (d *documents) twice(hits []Hit) (string, bool) {
	size := 16
	for size < 2*len(hits) {
		size *= 2
	}
	if d.table == nil {
		d.seed = maphash.MakeSeed()
	}
	if cap(d.table) < size {
		d.table = make([]int32, size)
	} else {
		d.table = d.table[:size]
		clear(d.table)
	}
	for i, h := range hits {
		at := int(maphash.String(d.seed, h.Document)) & (size - 1)
		for ; d.table[at] != 0; at = (at + 1) & (size - 1) {
			if hits[d.table[at]-1].Document == h.Document {
				return h.Document, true
			}
		}
		d.table[at] = int32(i + 1)
	}
	return "", false
}

// repeated names the lines of a document that a query has twice.
func repeated(file, text, query, document string) error {
	before, line := 0, 0
	fields := make([]string, 6)
	return eachLine(file, text, func(s string) error {
		line++
		if split(s, fields); fields[0] != query || fields[2] != document {
			return nil
		}
		if before > 0 {
			return fmt.Errorf("the document %q of the query %q is in line %d already", document, query, before)
		}
		before = line
		return nil
	})
}

// ReadJudgments reads judgments in TREC's form: query, 0, document, grade.
func ReadJudgments(file string, r io.Reader) (data.Qrels, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	qrels := data.Qrels{}
	fields := make([]string, 4)
	err = eachLine(file, strings.TrimPrefix(string(text), "\ufeff"), func(line string) error {
		n := split(line, fields)
		if n == 0 {
			return nil
		}
		if n != 4 {
			return fmt.Errorf("found %d columns; query, 0, document and grade are needed", n)
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

// eachLine calls each with every line; what it returns gets the line's number.
func eachLine(file, text string, each func(line string) error) error {
	for n := 1; len(text) > 0; n++ {
		line := text
		if end := strings.IndexByte(text, '\n'); end >= 0 {
			line, text = text[:end], text[end+1:]
		} else {
			text = ""
		}
		if err := each(line); err != nil {
			return &data.LineError{File: file, Line: n, Problem: err.Error()}
		}
	}
	return nil
}

// split puts what stands between blanks into fields, as far as it has room, and returns how many there are. Blanks are
// those of ASCII only: ids may contain others.
func split(line string, fields []string) int {
	n := 0
	for i := 0; i < len(line); n++ {
		for i < len(line) && blank(line[i]) {
			i++
		}
		start := i
		for i < len(line) && !blank(line[i]) {
			i++
		}
		if start == i {
			break
		}
		if n < len(fields) {
			fields[n] = line[start:i]
		}
	}
	return n
}

func blank(c byte) bool { return c == ' ' || c-'\t' <= '\r'-'\t' }

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
