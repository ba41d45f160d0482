package data

import (
	"fmt"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// rowKeys are the keys of a row: those that it needs and those that it may have. Others are not read.
type rowKeys struct {
	needs, may []string
	alias      [2]string // a word that is written for another one, however far they are apart
}

// parse reads one line, an object with these keys; member reads the value of each of them.
func (k *rowKeys) parse(line []byte, member func(s *scanner, key string) error) error {
	if err := checkText(line); err != nil {
		return err
	}
	s := scanner{b: line}
	var have, unknown []string
	err := s.object(func(key string) error {
		if !slices.Contains(k.needs, key) && !slices.Contains(k.may, key) {
			unknown = append(unknown, key)
			return s.value(0)
		}
		have = append(have, key)
		return member(&s, key)
	})
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = k.check(have, unknown)
	}
	return err
}

// check names a missing key, and an unknown one that is nearly the missing word.
func (k *rowKeys) check(have, unknown []string) error {
	for i, want := range slices.Concat(k.needs, k.may) {
		if slices.Contains(have, want) {
			continue
		}
		required := i < len(k.needs)
		near := ""
		for _, u := range unknown {
			if d := spelling.Distance(u, want); d <= 1 || required && d <= 3 && d < len(want)/2 {
				near = u
			}
		}
		if near == "" && want == k.alias[1] && slices.Contains(unknown, k.alias[0]) {
			near = k.alias[0]
		}
		switch {
		case near != "":
			return &keyError{key: want, problem: fmt.Sprintf("missing; did you mean %q where %q is written?", want, near), at: -1}
		case required:
			return &keyError{key: want, problem: fmt.Sprintf("missing; %s (found %s)", k, list(slices.Concat(have, unknown))), at: -1}
		}
	}
	return nil
}

// String says what a row has.
func (k *rowKeys) String() string {
	text := "a row needs " + sentence(k.needs, "and")
	if len(k.may) > 0 {
		text += ", and may have " + sentence(k.may, "and")
	}
	return text
}

// sentence joins words as a sentence does: a, b and c.
func sentence(all []string, last string) string {
	n := len(all) - 1
	if n < 1 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:n], ", ") + " " + last + " " + all[n]
}

func list(all []string) string {
	if len(all) == 0 {
		return "no key"
	}
	const most = 8
	if len(all) > most {
		return strings.Join(all[:most], ", ") + ", ..."
	}
	return strings.Join(all, ", ")
}
