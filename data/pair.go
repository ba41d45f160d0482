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
	fmt.Fprintf(&b, "%s:%d", e.File, e.Line)
	if e.Column > 0 {
		fmt.Fprintf(&b, ":%d", e.Column)
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

var pairKeys = []string{"task", "query", "positive", "negatives"}

// parsePair reads one line. The line has no byte-order mark and no line end.
func parsePair(line []byte) (Pair, error) {
	var p Pair
	if err := checkText(line); err != nil {
		return p, err
	}
	s := scanner{b: line}
	var have, unknown []string
	err := s.object(func(key string) error {
		var err error
		switch key {
		case "task":
			if s.kind() == "null" {
				return s.word("null")
			}
			p.Task, err = s.text(key)
		case "query":
			p.Query, err = s.nonblank(key)
		case "positive":
			if s.kind() == "list" {
				p.Positives, err = s.texts(key)
				break
			}
			var one string
			one, err = s.nonblank(key)
			p.Positives = []string{one}
		case "negatives":
			p.Negatives, err = s.negatives(key)
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
	if err == nil {
		err = checkKeys(have, unknown)
	}
	if err == nil && len(p.Positives) == 0 {
		err = &keyError{key: "positive", problem: "an empty list; a text or a list of texts is allowed", at: -1}
	}
	if err == nil && max(len(p.Positives), len(p.Negatives)) > math.MaxUint16 {
		err = fmt.Errorf("%d positives and %d negatives; at most %d each are allowed", len(p.Positives), len(p.Negatives), math.MaxUint16)
	}
	return p, err
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

// checkKeys names missing keys, and an unknown one that is nearly the missing word.
func checkKeys(have, unknown []string) error {
	for _, want := range pairKeys {
		if contains(have, want) {
			continue
		}
		required := want == "query" || want == "positive"
		near := ""
		for _, u := range unknown {
			if d := distance(u, want); d <= 1 || required && d <= 3 && d < len(want)/2 {
				near = u
			}
		}
		if near == "" && want == "negatives" && contains(unknown, "hard_negatives") {
			near = "hard_negatives"
		}
		switch {
		case near != "":
			return &keyError{key: want, problem: fmt.Sprintf("missing; did you mean %q where %q is written?", want, near), at: -1}
		case required:
			return &keyError{key: want, problem: fmt.Sprintf("missing; a row needs query and positive, and may have task and negatives (found %s)", list(append(have, unknown...))), at: -1}
		}
	}
	return nil
}

func contains(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

func list(words []string) string {
	if len(words) == 0 {
		return "no key"
	}
	const most = 8
	if len(words) > most {
		return strings.Join(words[:most], ", ") + ", ..."
	}
	return strings.Join(words, ", ")
}

// distance is the number of insertions, deletions, replacements and swaps of neighbours from a to b.
func distance(a, b string) int {
	if a == b {
		return 0
	}
	if len(a) > len(b)+3 || len(b) > len(a)+3 {
		return len(a) + len(b)
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	next := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
