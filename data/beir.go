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
	var id, other, title, text string
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
		case key == "id" && id == "" && (s.kind() == "number" || s.kind() == "string"): // as mteb's newer sets write it
			other, err = s.id(key)
			unknown = append(unknown, key)
			return err
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
	if other != "" && !slices.Contains(have, "_id") {
		id, have = other, append(have, "_id")
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

// openJudgments reads a file of judgments: tabs as BEIR has them, or rows with the same names as keys, in JSON lines or
// Parquet.
func openJudgments(path string) (Qrels, error) {
	if strings.HasSuffix(path, ".tsv") {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return ReadQrels(path, f)
	}
	rows, err := OpenRows(path)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := Qrels{}
	for row, err := range rows.All() {
		if err != nil {
			return nil, err
		}
		if err := out.row(&row); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read %s: no judgments", path)
	}
	return out, nil
}

// row adds the judgment {query-id, corpus-id, score}.
func (q Qrels) row(r *Row) error {
	query, err := r.ID("query-id")
	if err != nil {
		return err
	}
	document, err := r.ID("corpus-id")
	if err != nil {
		return err
	}
	grade, err := r.Int("score")
	if err == nil {
		if err = q.Judge(query, document, grade); err != nil {
			err = r.fault("score", err.Error())
		}
	}
	return err
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

// judgmentFolders are where judgments are: BEIR's, and those of the sets of mteb.
var judgmentFolders = []string{"qrels", "default", "data"}

// judgments lists the files of judgments of a folder in BEIR layout: those in qrels, or else in the folders that mteb's
// sets have them in. split names one.
func judgments(dir string) (paths []string, split func(path string) string, err error) {
	for _, name := range judgmentFolders {
		if paths, err = filepath.Glob(filepath.Join(dir, name, "*.tsv")); err != nil {
			return nil, nil, err
		}
		rows, err := rowFiles(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, err
		}
		if paths = append(paths, rows...); len(paths) > 0 {
			break
		}
	}
	return paths, func(path string) string { return strings.TrimSuffix(stem(path), ".tsv") }, nil
}

// qrelsPath finds the judgments of a split; "" is the only one there is.
func qrelsPath(dir, split string) (string, error) {
	paths, name, err := judgments(dir)
	if err != nil {
		return "", err
	}
	var names, found []string
	for _, p := range paths {
		if names = append(names, name(p)); name(p) == split || split == "" {
			found = append(found, p)
		}
	}
	switch {
	case len(paths) == 0:
		return "", fmt.Errorf("open suite %s: no qrels/*.tsv", dir)
	case split == "" && len(found) > 1:
		return "", fmt.Errorf("open suite %s: split: none is chosen; %s is allowed", dir, list(names))
	case len(found) > 1:
		return "", fmt.Errorf("open suite %s: the split %s is there %d times: keep one of %s", dir, split, len(found), strings.Join(found, ", "))
	case len(found) == 0:
		return "", fmt.Errorf("open suite %s: split: %q; %s is allowed", dir, split, list(names))
	}
	return found[0], nil
}

// beirFile finds the rows of a corpus or of queries.
func beirFile(dir, name string) (string, error) {
	path, err := FindRows(dir, name, "")
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("open suite %s: neither %s.jsonl nor %s.jsonl.gz nor %[2]s.parquet is there, nor a folder %[2]s with one", dir, name, name)
	}
	return path, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
