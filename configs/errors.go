package configs

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// Error is one fault of a run file.
type Error struct {
	At   Position
	Key  string // full path; "" for faults of the file itself
	Text string // what was found, what is allowed, the nearest valid word
}

func (e Error) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s: %s", e.At, e.Text)
	}
	return fmt.Sprintf("%s: %s: %s", e.At, e.Key, e.Text)
}

// Errors are all the faults of a run file, in file order.
type Errors []Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// result returns nil or the sorted errors.
func result(es []Error) error {
	if len(es) == 0 {
		return nil
	}
	var once []Error // stages share what is wrong in the file
	for _, e := range es {
		if !slices.Contains(once, e) {
			once = append(once, e)
		}
	}
	es = once
	sort.SliceStable(es, func(i, j int) bool {
		a, b := es[i].At, es[j].At
		if (a.Line == 0) != (b.Line == 0) {
			return a.Line != 0
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	return Errors(es)
}

var place = regexp.MustCompile(`^\[(\d+):(\d+)\] `)

// syntaxError takes position and sentence out of the parser's message, whose rest is a drawing of the source.
func syntaxError(file string, err error) Error {
	var p interface{ Error() string }
	text := err.Error()
	if errors.As(err, &p) {
		text = p.Error()
	}
	text, _, _ = strings.Cut(text, "\n")
	at := Position{File: file, Line: 1, Column: 1}
	if m := place.FindStringSubmatch(text); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		at.Column, _ = strconv.Atoi(m[2])
		text = text[len(m[0]):]
	}
	return Error{At: at, Text: "not valid YAML: " + text}
}

// suggestion ends a message with the nearest valid word and what is allowed.
func suggestion(word string, allowed []string) string {
	text := "allowed: " + strings.Join(allowed, ", ")
	if n := spelling.Nearest(word, allowed); n != "" {
		text = fmt.Sprintf("did you mean %q? %s", n, text)
	}
	return text
}
