package data

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// The formats of training data. Each but BEIR is told from the keys of a file's rows; BEIR from its folder.
const (
	Counterpoint         = "counterpoint"          // {task, query, positive, negatives}: our own
	Echo                 = "echo"                  // {query, positive, negative}: echo-data, a file a source
	FlagEmbedding        = "flagembedding"         // {query, pos, neg, prompt}
	Tevatron             = "tevatron"              // {query_text, positive_document_ids, negative_document_ids} and corpus.jsonl
	TevatronLegacy       = "tevatron-legacy"       // {query, positive_passages, negative_passages}
	SentenceTransformers = "sentence-transformers" // columns in order: anchor, positive, negative_1 to negative_n
	BEIR                 = "beir"                  // corpus.jsonl, queries.jsonl and qrels/train.tsv
)

// Formats are the words allowed for Source.Format.
var Formats = []string{Counterpoint, Echo, FlagEmbedding, Tevatron, TevatronLegacy, SentenceTransformers, BEIR}

// marks are the keys that tell a format; a row that has all of them is one of it. Of our own rows and those of echo,
// which share two keys, rowFormats decides.
var marks = []struct {
	format string
	keys   []string
}{
	{Counterpoint, []string{"query", "positive"}},
	{Echo, []string{"query", "positive", "negative"}},
	{FlagEmbedding, []string{"query", "pos"}},
	{Tevatron, []string{"query_text", "positive_document_ids"}},
	{TevatronLegacy, []string{"query", "positive_passages"}},
	{SentenceTransformers, []string{"anchor", "positive"}},
}

func marksOf(format string) string {
	for _, m := range marks {
		if m.format == format {
			return strings.Join(m.keys, ", ")
		}
	}
	return ""
}

// rowFormats returns the formats that a row with these keys has.
func rowFormats(keys []string) []string {
	var found []string
	for _, m := range marks {
		if !slices.ContainsFunc(m.keys, func(k string) bool { return !slices.Contains(keys, k) }) {
			found = append(found, m.format)
		}
	}
	if slices.Contains(found, Echo) {
		own, task := slices.Contains(keys, "negatives"), slices.Contains(keys, "task")
		switch {
		case task: // ours, with a word miswritten: its reader says so
			found = slices.DeleteFunc(found, func(f string) bool { return f == Echo })
		case !own:
			found = slices.DeleteFunc(found, func(f string) bool { return f == Counterpoint })
		}
	}
	return found
}

// topKeys returns the keys of a row, in order.
func topKeys(line []byte) ([]string, error) {
	if err := checkText(line); err != nil {
		return nil, err
	}
	s := scanner{b: line}
	var keys []string
	err := s.object(func(key string) error {
		keys = append(keys, key)
		return s.value(0)
	})
	if err == nil {
		err = s.end()
	}
	return keys, err
}

// detectRows bounds how many rows are looked at for one that tells the format: the first does unless it is bad.
const detectRows = 100

// detect tells the format of a file from the first of its rows that has one. columns are that row's keys. A file
// without such a row is Counterpoint's, whose reader names the fault, unless it is known to be something else.
func detect(file string) (format string, columns []string, err error) {
	l, err := openLines(file)
	if err != nil {
		return "", nil, err
	}
	defer l.close()
	var first []string
	for range detectRows {
		line, err := l.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", nil, err
		}
		keys, err := topKeys(line)
		if err != nil {
			continue
		}
		switch found := rowFormats(keys); len(found) {
		case 0:
			if first == nil {
				first = keys
				err = stranger(file, l.line, keys)
			}
		case 1:
			if found[0] == SentenceTransformers && !slices.Equal(keys[:2], marks[len(marks)-1].keys) {
				return "", nil, &LineError{File: file, Line: l.line, Problem: fmt.Sprintf("found the columns %s: their order says what they are, and anchor, positive, negatives is usual; write format: %s to take the first one as anchor and the second as positive",
					list(keys), SentenceTransformers)}
			}
			return found[0], keys, nil
		default:
			fits, write := make([]string, len(found)), make([]string, len(found))
			for i, f := range found {
				fits[i], write[i] = fmt.Sprintf("%s (%s)", f, marksOf(f)), "format: "+f
			}
			err = &LineError{File: file, Line: l.line, Problem: fmt.Sprintf("the row fits %s; write %s at this entry under data", sentence(fits, "and"), sentence(write, "or"))}
		}
		if err != nil {
			return "", nil, err
		}
	}
	return Counterpoint, first, nil
}

// firstKeys returns the keys of the first row that is one.
func firstKeys(file string) ([]string, error) {
	l, err := openLines(file)
	if err != nil {
		return nil, err
	}
	defer l.close()
	for {
		line, err := l.read()
		if errors.Is(err, io.EOF) {
			return nil, errNoRows(file, 0)
		}
		if err != nil {
			return nil, err
		}
		if keys, err := topKeys(line); err == nil {
			return keys, nil
		}
	}
}

// stranger names what a row is that has the keys of no format; nil leaves it to the reader of our own rows, which
// knows a miswritten key.
func stranger(file string, line int, keys []string) error {
	has := func(all ...string) bool {
		return !slices.ContainsFunc(all, func(k string) bool { return !slices.Contains(keys, k) })
	}
	problem := ""
	switch {
	case has("_id", "text"):
		problem = "a corpus or queries file in BEIR layout; give the path of its folder, which needs queries.jsonl and qrels/train.tsv too"
	case has("docid", "document_text"), has("docid", "text"):
		problem = "a corpus of Tevatron; give the path of the file with the queries, in the same folder"
	case has("messages"):
		problem = "rows of chat messages (ms-swift) are not read; " + pairKeys.String()
	default:
		var key *keyError
		if errors.As(pairKeys.check(ownKeys(keys)), &key) && !strings.Contains(key.problem, "did you mean") {
			problem = fmt.Sprintf("the keys %s are of no known format; allowed: %s; or write format: %s to read the columns in their order: query, positive, negatives",
				list(keys), known(), SentenceTransformers)
			for _, m := range marks {
				for _, want := range m.keys {
					for _, found := range keys {
						if d := spelling.Distance(found, want); d > 0 && d <= 2 && d < len(want)/3 {
							problem += fmt.Sprintf("; did you mean %q where %q is written?", want, found)
						}
					}
				}
			}
		}
	}
	if problem == "" {
		return nil
	}
	return &LineError{File: file, Line: line, Problem: problem}
}

// ownKeys parts keys into those of our own rows and the others.
func ownKeys(keys []string) (have, unknown []string) {
	for _, k := range keys {
		if slices.Contains(pairKeys.needs, k) || slices.Contains(pairKeys.may, k) {
			have = append(have, k)
		} else {
			unknown = append(unknown, k)
		}
	}
	return have, unknown
}

// known lists the formats with their keys.
func known() string {
	var all []string
	for _, m := range marks {
		all = append(all, fmt.Sprintf("%s (%s)", m.format, strings.Join(m.keys, ", ")))
	}
	return strings.Join(all, ", ")
}
