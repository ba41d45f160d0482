package data

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Qrels are relevance judgments: query id -> document id -> grade.
type Qrels map[string]map[string]int

// parseBEIR reads one line of corpus.jsonl or queries.jsonl: _id, text, and perhaps title. The text of a
// document is title, blank, text, trimmed; it may be empty, as an empty document is still in the index.
func parseBEIR(line []byte, query bool) (record, error) {
	var id, title, text string
	if err := checkText(line); err != nil {
		return record{}, err
	}
	s := scanner{b: line}
	var have, unknown []string
	err := s.object(func(key string) error {
		var err error
		switch {
		case key == "_id" && s.kind() == "number":
			id, err = s.number()
		case key == "_id":
			id, err = s.nonblank(key)
		case key == "title" && s.kind() == "null":
			return s.word("null")
		case key == "title":
			title, err = s.text(key)
		case key == "text":
			text, err = s.text(key)
		default:
			unknown = append(unknown, key)
			return s.value(0)
		}
		have = append(have, key)
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return record{}, err
	}
	for _, key := range []string{"_id", "text"} {
		if !slices.Contains(have, key) {
			return record{}, &keyError{key: key, problem: fmt.Sprintf("missing; _id and text are needed, and title is allowed (found %s)", list(append(have, unknown...))), at: -1}
		}
	}
	if i := strings.IndexFunc(id, func(r rune) bool { return r < ' ' }); i >= 0 {
		return record{}, &keyError{key: "_id", problem: fmt.Sprintf("found %q; an id without control characters is allowed", id), at: -1}
	}
	if query {
		if strings.TrimSpace(text) == "" {
			return record{}, &keyError{key: "text", problem: "found an empty query", at: -1}
		}
		return record{id: id, texts: []string{text}, queries: 1}, nil
	}
	return record{id: id, texts: []string{strings.TrimSpace(title + " " + text)}, positives: 1}, nil
}

func beirFormat(query bool, instruction string) format {
	f := format{emptyTexts: true, parse: func(line []byte) (record, error) { return parseBEIR(line, query) }}
	if query {
		f.instruction = instruction
	} else {
		f.document = instruction
	}
	return f
}

// ReadQrels reads judgments in BEIR's form: a header line, then query-id, corpus-id and score between tabs. The
// errors are *LineError; file is the name in them.
func ReadQrels(file string, r io.Reader) (Qrels, error) {
	l, err := newLines(file, r)
	if err != nil {
		return nil, err
	}
	out := Qrels{}
	for header := true; ; header = false {
		line, err := l.read()
		if errors.Is(err, io.EOF) {
			if len(out) == 0 {
				return nil, fmt.Errorf("read %s: no judgments", file)
			}
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		fields := strings.Split(string(line), "\t")
		if header {
			if len(fields) < 3 || strings.TrimSpace(fields[0]) != "query-id" || strings.TrimSpace(fields[1]) != "corpus-id" {
				return nil, &LineError{File: file, Line: l.line, Problem: fmt.Sprintf("found %.60q; the header query-id, corpus-id, score between tabs is needed first", line)}
			}
			continue
		}
		if err := out.add(fields); err != nil {
			return nil, &LineError{File: file, Line: l.line, Problem: err.Error()}
		}
	}
}

func (q Qrels) add(fields []string) error {
	if len(fields) != 3 {
		return fmt.Errorf("found %d columns; query-id, corpus-id and score between tabs are needed", len(fields))
	}
	if fields[0] == "" || fields[1] == "" {
		return errors.New("found an empty id")
	}
	grade, err := ParseGrade(strings.TrimSpace(fields[2]))
	if err != nil {
		return err
	}
	return q.Judge(fields[0], fields[1], grade)
}

// Judge adds a judgment. Another grade for the same document of the same query is an error.
func (q Qrels) Judge(query, document string, grade int) error {
	if old, ok := q[query][document]; ok && old != grade {
		return fmt.Errorf("the document %q of the query %q has the grade %d and had %d before", document, query, grade, old)
	}
	if q[query] == nil {
		q[query] = map[string]int{}
	}
	q[query][document] = grade
	return nil
}

// ParseGrade reads a grade: an integer, perhaps written 1.0, never 1.5.
func ParseGrade(text string) (int, error) {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return int(n), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != float64(int32(f)) {
		return 0, fmt.Errorf("found the grade %q; an integer is allowed", text)
	}
	return int(f), nil
}

// qrelsPath finds the judgments of a split; "" is the only one there is.
func qrelsPath(dir, split string) (string, error) {
	if split != "" {
		path := filepath.Join(dir, "qrels", split+".tsv")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	paths, err := filepath.Glob(filepath.Join(dir, "qrels", "*.tsv"))
	if err != nil {
		return "", err
	}
	var names []string
	for _, p := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(p), ".tsv"))
	}
	switch {
	case len(paths) == 0:
		return "", fmt.Errorf("open suite %s: no qrels/*.tsv", dir)
	case split != "":
		return "", fmt.Errorf("open suite %s: split: %q; %s is allowed", dir, split, list(names))
	case len(paths) > 1:
		return "", fmt.Errorf("open suite %s: split: none is chosen; %s is allowed", dir, list(names))
	}
	return paths[0], nil
}

// beirFile finds name.jsonl or name.jsonl.gz.
func beirFile(dir, name string) (string, error) {
	for _, ending := range []string{".jsonl", ".jsonl.gz"} {
		if path := filepath.Join(dir, name+ending); exists(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("open suite %s: neither %s.jsonl nor %s.jsonl.gz is there", dir, name, name)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
