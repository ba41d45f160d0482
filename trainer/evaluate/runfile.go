package evaluate

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
)

// fileForm is how a run or judgments are written.
type fileForm uint8

const (
	formTREC fileForm = iota
	formTSV           // BEIR: a header with query-id, then query, document and score between tabs
	formJSON          // BEIR: {query: {document: score}}
)

// readText reads a file, "-" for standard input, gzipped or not.
func readText(path string) (string, error) {
	in := os.Stdin
	var size int64
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
	}
	buffered := bufio.NewReaderSize(in, 1<<16)
	var from io.Reader = buffered
	if magic, _ := buffered.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", path, err)
		}
		from, size = z, 4*size
	}
	var text strings.Builder
	text.Grow(int(size))
	if _, err := io.Copy(&text, from); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return strings.TrimPrefix(text.String(), "\ufeff"), nil
}

func formOf(text string) fileForm {
	line, _, _ := strings.Cut(text, "\n")
	switch {
	case strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{"):
		return formJSON
	case strings.HasPrefix(line, "query-id\t"), strings.HasPrefix(line, "query_id\t"), strings.HasPrefix(line, "qid\t"):
		return formTSV
	}
	return formTREC
}

// OpenRun reads a run file: TREC's form or BEIR's (tabs under a header, or JSON), which its text tells; gzipped or
// not; "-" is standard input. The tag is that of TREC's form, else the file's name.
func OpenRun(path string) (run Run, tag string, err error) {
	text, err := readText(path)
	if err != nil {
		return nil, "", err
	}
	tag = strings.TrimSuffix(filepath.Base(path), ".gz")
	tag = strings.TrimSuffix(tag, filepath.Ext(tag))
	switch formOf(text) {
	case formJSON:
		run, err = parseRunJSON(path, text)
	case formTSV:
		run, err = parseRunTSV(path, text)
	default:
		return ParseRun(path, text)
	}
	return run, tag, err
}

// OpenJudgments reads judgments in TREC's form or BEIR's, as OpenRun does.
func OpenJudgments(path string) (data.Qrels, error) {
	text, err := readText(path)
	if err != nil {
		return nil, err
	}
	switch formOf(text) {
	case formJSON:
		qrels := data.Qrels{}
		err = eachJSON(path, text, func(query, document, value string) error {
			grade, err := data.ParseGrade(value)
			if err != nil {
				return err
			}
			return qrels.Judge(query, document, grade)
		})
		if err == nil && len(qrels) == 0 {
			err = fmt.Errorf("read %s: no judgments", path)
		}
		if err != nil {
			return nil, err
		}
		return qrels, nil
	case formTSV:
		return data.ReadQrels(path, strings.NewReader(text))
	}
	return ReadJudgments(path, strings.NewReader(text))
}

// gatherer adds hits one by one, of any query, and refuses a document twice.
type gatherer struct {
	run  Run
	seen map[[2]string]bool
}

func (g *gatherer) add(query, document, score string) error {
	v, err := parseScore(score)
	if err != nil {
		return err
	}
	if query == "" || document == "" {
		return errors.New("found an empty id")
	}
	key := [2]string{query, document}
	if g.seen[key] {
		return fmt.Errorf("the document %q of the query %q is there already", document, query)
	}
	g.seen[key] = true
	g.run[query] = append(g.run[query], Hit{Document: document, Score: v})
	return nil
}

func (g *gatherer) done(file string, err error) (Run, error) {
	if err == nil && len(g.run) == 0 {
		err = fmt.Errorf("read %s: an empty run", file)
	}
	if err != nil {
		return nil, err
	}
	return g.run, nil
}

func parseRunTSV(file, text string) (Run, error) {
	g := gatherer{run: Run{}, seen: map[[2]string]bool{}}
	header := true
	err := eachLine(file, text, func(line string) error {
		line = strings.TrimSuffix(line, "\r")
		if header || line == "" {
			header = false
			return nil
		}
		columns := strings.Split(line, "\t")
		if len(columns) != 3 {
			return fmt.Errorf("found %d columns; query-id, corpus-id and score between tabs are needed", len(columns))
		}
		return g.add(columns[0], columns[1], strings.TrimSpace(columns[2]))
	})
	return g.done(file, err)
}

func parseRunJSON(file, text string) (Run, error) {
	g := gatherer{run: Run{}, seen: map[[2]string]bool{}}
	err := eachJSON(file, text, g.add)
	return g.done(file, err)
}

// eachJSON calls each with every number of {query: {document: number}}; errors have the line.
func eachJSON(file, text string, each func(query, document, value string) error) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	fail := func(err error) error {
		at := d.InputOffset()
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = syntax.Offset
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the file ends early")
		}
		return &data.LineError{File: file, Line: 1 + strings.Count(text[:min(int64(len(text)), at)], "\n"), Problem: err.Error()}
	}
	open := func(what string) error {
		t, err := d.Token()
		if err == nil && t != json.Delim('{') {
			err = fmt.Errorf("found %v; %s is needed", t, what)
		}
		return err
	}
	if err := open("an object of queries"); err != nil {
		return fail(err)
	}
	for d.More() {
		query, err := d.Token()
		if err == nil {
			err = open("an object of documents")
		}
		for err == nil && d.More() {
			var document, value json.Token
			if document, err = d.Token(); err != nil {
				break
			}
			if value, err = d.Token(); err != nil {
				break
			}
			number, ok := value.(json.Number)
			if !ok {
				err = fmt.Errorf("found %v for the document %q; a number is needed", value, document)
				break
			}
			if query == "" || document == "" {
				err = errors.New("found an empty id")
				break
			}
			err = each(query.(string), document.(string), number.String())
		}
		if err == nil {
			_, err = d.Token() // the end of the documents
		}
		if err != nil {
			return fail(err)
		}
	}
	if _, err := d.Token(); err != nil {
		return fail(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fail(errors.New("found more after the object of queries"))
	}
	return nil
}

// WriteRunFile writes a run in the form that the file's ending tells: .json, .tsv, else TREC's; each also with .gz.
func WriteRunFile(path string, run Run, p Precision, tag string) error {
	return writeFile(path, func(w io.Writer, ending string) error {
		switch ending {
		case ".json":
			out := make(map[string]map[string]float64, len(run))
			for query, hits := range run {
				out[query] = make(map[string]float64, len(hits))
				for _, h := range hits {
					if math.IsInf(h.Score, 0) {
						return fmt.Errorf("the score of %q for %q is infinite, which JSON cannot say", h.Document, query)
					}
					out[query][h.Document] = h.Score
				}
			}
			return json.NewEncoder(w).Encode(out)
		case ".tsv":
			return writeTSV(w, sortedKeys(run), func(query string, row func(document, value string)) {
				for _, h := range rank(run[query], p) {
					row(h.Document, strconv.FormatFloat(h.Score, 'g', -1, 64))
				}
			})
		}
		return WriteRun(w, run, p, tag)
	})
}

// WriteJudgmentsFile writes judgments, as WriteRunFile does.
func WriteJudgmentsFile(path string, qrels data.Qrels) error {
	return writeFile(path, func(w io.Writer, ending string) error {
		grades := func(query string, row func(document, value string)) {
			for _, document := range sortedKeys(qrels[query]) {
				row(document, strconv.Itoa(qrels[query][document]))
			}
		}
		switch ending {
		case ".json":
			return json.NewEncoder(w).Encode(qrels)
		case ".tsv":
			return writeTSV(w, sortedKeys(qrels), grades)
		}
		var err error
		for _, query := range sortedKeys(qrels) {
			grades(query, func(document, value string) {
				if strings.ContainsAny(query+document, " \t\r\n") && err == nil {
					err = fmt.Errorf("the id %q or %q has a blank and cannot be in a TREC file", query, document)
				}
				fmt.Fprintf(w, "%s 0 %s %s\n", query, document, value)
			})
		}
		return err
	})
}

// writeTSV writes BEIR's tabs: rows gives those of a query.
func writeTSV(w io.Writer, queries []string, rows func(query string, row func(document, value string))) error {
	var err error
	fmt.Fprint(w, "query-id\tcorpus-id\tscore\n")
	for _, query := range queries {
		rows(query, func(document, value string) {
			if strings.ContainsAny(query+document, "\t\r\n") && err == nil {
				err = fmt.Errorf("the id %q or %q has a tab or a line end and cannot be in a TSV file", query, document)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", query, document, value)
		})
	}
	return err
}
