package data

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Pair is one row of a source: a query with its relevant documents and, possibly, mined irrelevant ones.
type Pair struct {
	Task      string   // instruction of the row; may be empty
	Query     string   //
	Positives []string // at least one
	Negatives []string //
}

// LineError is a fault in one line of a file. Such a line may be skipped; faults of the file itself are other
// errors.
type LineError struct {
	File    string
	Line    int    // 1-based; blank lines count
	Column  int    // 1-based byte in the line; 0 = the whole line
	Key     string // "" = none in particular
	Problem string // what was found, what is allowed
}

func (e *LineError) Error() string {
	var b strings.Builder
	switch {
	case strings.HasSuffix(e.File, ".parquet"): // has rows and no lines; a column is known by its key
		fmt.Fprintf(&b, "%s: row %d", e.File, e.Line)
	case e.Column > 0:
		fmt.Fprintf(&b, "%s:%d:%d", e.File, e.Line, e.Column)
	default:
		fmt.Fprintf(&b, "%s:%d", e.File, e.Line)
	}
	b.WriteString(": ")
	if e.Key != "" {
		fmt.Fprintf(&b, "key %q: ", e.Key)
	}
	b.WriteString(e.Problem)
	return b.String()
}

// keyError is a fault in the value of a key; it becomes a LineError where the line is known.
type keyError struct {
	key, problem string
	at           int // byte offset in the line, -1 = none
}

func (e *keyError) Error() string { return e.problem }

// lineError puts file and line to a fault found while parsing.
func lineError(file string, line int, err error) error {
	e := &LineError{File: file, Line: line, Problem: err.Error()}
	var key *keyError
	var syntax *syntaxError
	switch {
	case errors.As(err, &key):
		e.Key, e.Column = key.key, key.at+1
	case errors.As(err, &syntax):
		e.Column = syntax.at + 1
	}
	return e
}

// pairKeys are the keys of our own rows.
var pairKeys = rowKeys{needs: []string{"query", "positive"}, may: []string{"task", "negatives"}, alias: [2]string{"hard_negatives", "negatives"}}

// parsePair reads one line. The line has no byte-order mark and no line end.
func parsePair(line []byte) (Pair, error) {
	var p Pair
	err := pairKeys.parse(line, func(s *scanner, key string) (err error) {
		switch key {
		case "task":
			p.Task, err = s.textOrNull(key)
		case "query":
			p.Query, err = s.nonblank(key)
		case "positive":
			p.Positives, err = s.oneOrMore(key)
		case "negatives":
			p.Negatives, err = s.negatives(key)
		}
		return err
	})
	if err == nil {
		err = p.check("positive", "a text or a list of texts is allowed")
	}
	return p, err
}

// check refuses a row without positives, found under key, and one with more texts than a row's index can count.
func (p *Pair) check(key, allowed string) error {
	if len(p.Positives) == 0 {
		return &keyError{key: key, problem: "an empty list; " + allowed, at: -1}
	}
	if max(len(p.Positives), len(p.Negatives)) > math.MaxUint16 {
		return fmt.Errorf("%d positives and %d negatives; at most %d each are allowed", len(p.Positives), len(p.Negatives), math.MaxUint16)
	}
	return nil
}

// oneOrMore reads a list of texts, or one text.
func (s *scanner) oneOrMore(key string) ([]string, error) {
	if s.kind() == "list" {
		return s.texts(key)
	}
	one, err := s.nonblank(key)
	return []string{one}, err
}

// negatives reads a list, one text, or null.
func (s *scanner) negatives(key string) ([]string, error) {
	switch s.kind() {
	case "null":
		return nil, s.word("null")
	case "string": // one negative, never a list of letters
		one, err := s.nonblank(key)
		return []string{one}, err
	default:
		return s.texts(key)
	}
}

// textOrNull reads a string; null is the empty one.
func (s *scanner) textOrNull(key string) (string, error) {
	if s.kind() == "null" {
		return "", s.word("null")
	}
	return s.text(key)
}

// text reads a string.
func (s *scanner) text(key string) (string, error) {
	if k := s.kind(); k != "string" {
		return "", &keyError{key: key, problem: "found " + article(k) + "; a string is allowed", at: s.i}
	}
	return s.str()
}

// nonblank reads a string that is not only blanks.
func (s *scanner) nonblank(key string) (string, error) {
	at := s.i
	t, err := s.text(key)
	if err == nil && strings.TrimSpace(t) == "" {
		return "", &keyError{key: key, problem: "found an empty text", at: at}
	}
	return t, err
}

// texts reads a list of strings that are not only blanks.
func (s *scanner) texts(key string) ([]string, error) {
	if k := s.kind(); k != "list" {
		return nil, &keyError{key: key, problem: "found " + article(k) + "; a list of strings is allowed", at: s.i}
	}
	var out []string
	err := s.list(func(int) error {
		t, err := s.nonblank(key)
		out = append(out, t)
		return err
	})
	return out, err
}

func article(kind string) string {
	switch kind {
	case "null":
		return kind
	case "object":
		return "an object"
	case "string", "list", "boolean", "number":
		return "a " + kind
	default:
		return kind
	}
}

// checkText refuses bytes that are not valid UTF-8: replacing them would train on damaged text.
func checkText(line []byte) error {
	if !utf8.Valid(line) {
		at := 0
		for r, n := utf8.DecodeRune(line); r != utf8.RuneError || n > 1; r, n = utf8.DecodeRune(line[at:]) {
			at += n
		}
		return &syntaxError{at: at, problem: fmt.Sprintf("the byte 0x%02X is not valid UTF-8 (convert the file to UTF-8)", line[at])}
	}
	return nil
}
