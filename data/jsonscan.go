package data

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of values under keys that are not read.
const maxDepth = 1000

// syntaxError is a fault at a byte offset of a line.
type syntaxError struct {
	at      int
	problem string
}

func (e *syntaxError) Error() string { return e.problem }

// scanner reads one JSON value strictly. Unlike encoding/json it refuses duplicate keys and lone surrogates,
// says where a fault is, and decodes only the values that are asked for. Its input is valid UTF-8.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) fail(format string, args ...any) error {
	return &syntaxError{at: s.i, problem: fmt.Sprintf(format, args...)}
}

func (s *scanner) blanks() {
	for s.i < len(s.b) && isBlank(s.b[s.i]) {
		s.i++
	}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// found describes the next bytes for a message.
func (s *scanner) found() string {
	if s.i >= len(s.b) {
		return "the end of the line"
	}
	if s.b[s.i] < ' ' {
		return fmt.Sprintf("the control character U+%04X", s.b[s.i])
	}
	r, _ := utf8.DecodeRune(s.b[s.i:])
	return strconv.QuoteRune(r)
}

func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// object reads an object and calls member for each key with the scanner at its value; member must consume it.
func (s *scanner) object(member func(key string) error) error {
	s.blanks()
	if s.peek() != '{' {
		return s.fail("expected an object {...}, found %s", s.found())
	}
	s.i++
	s.blanks()
	if s.peek() == '}' {
		s.i++
		return nil
	}
	seen := make([]string, 0, 8)
	for {
		s.blanks()
		start := s.i
		if s.peek() != '"' {
			return s.fail("expected a key in double quotes, found %s", s.found())
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		for _, k := range seen {
			if k == key {
				s.i = start
				return s.fail("the key %q occurs twice", key)
			}
		}
		seen = append(seen, key)
		s.blanks()
		if s.peek() != ':' {
			return s.fail("expected ':' after the key %q, found %s", key, s.found())
		}
		s.i++
		s.blanks()
		if err := member(key); err != nil {
			return err
		}
		s.blanks()
		switch s.peek() {
		case ',':
			s.i++
		case '}':
			s.i++
			return nil
		default:
			return s.fail("expected ',' or '}' after the value of %q, found %s", key, s.found())
		}
	}
}

// list reads an array and calls element for each element with the scanner at it.
func (s *scanner) list(element func(i int) error) error {
	s.i++ // the caller saw '['
	s.blanks()
	if s.peek() == ']' {
		s.i++
		return nil
	}
	for n := 0; ; n++ {
		s.blanks()
		if err := element(n); err != nil {
			return err
		}
		s.blanks()
		switch s.peek() {
		case ',':
			s.i++
		case ']':
			s.i++
			return nil
		default:
			return s.fail("expected ',' or ']' in a list, found %s", s.found())
		}
	}
}

// end checks that nothing follows the value.
func (s *scanner) end() error {
	s.blanks()
	if s.i < len(s.b) {
		return s.fail("expected the end of the line after the object, found %s", s.found())
	}
	return nil
}

// kind names the type of the next value.
func (s *scanner) kind() string {
	switch c := s.peek(); {
	case c == '"':
		return "string"
	case c == '{':
		return "object"
	case c == '[':
		return "list"
	case c == 't' || c == 'f':
		return "boolean"
	case c == 'n':
		return "null"
	case c == '-' || c >= '0' && c <= '9':
		return "number"
	default:
		return s.found()
	}
}

// str decodes a string; the scanner is at its opening quote.
func (s *scanner) str() (string, error) {
	s.i++
	start := s.i
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return string(s.b[start : s.i-1]), nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return "", s.fail("%s is not escaped in a string", s.found())
		default:
			s.i++
		}
	}
	return "", s.fail("a string does not end")
}

// escaped decodes the rest of a string that has a backslash at s.i.
func (s *scanner) escaped(start int) (string, error) {
	var out strings.Builder
	out.Write(s.b[start:s.i])
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return out.String(), nil
		case c < ' ':
			return "", s.fail("%s is not escaped in a string", s.found())
		case c != '\\':
			out.WriteByte(c)
			s.i++
		case s.i+1 < len(s.b) && s.b[s.i+1] == 'u':
			r, err := s.unicode()
			if err != nil {
				return "", err
			}
			out.WriteRune(r)
		default:
			plain := byte(0)
			if s.i+1 < len(s.b) {
				plain = escapes[s.b[s.i+1]]
			}
			if plain == 0 {
				return "", s.fail(`a backslash is followed by none of "\/bfnrtu`)
			}
			out.WriteByte(plain)
			s.i += 2
		}
	}
	return "", s.fail("a string does not end")
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unicode decodes \uXXXX, or two of them for a rune beyond U+FFFF.
func (s *scanner) unicode() (rune, error) {
	hi, ok := s.hex4(s.i)
	if !ok {
		return 0, s.fail(`\u is not followed by four hexadecimal digits`)
	}
	if !utf16.IsSurrogate(hi) {
		s.i += 6
		return hi, nil
	}
	if lo, ok := s.hex4(s.i + 6); ok {
		if r := utf16.DecodeRune(hi, lo); r != utf8.RuneError {
			s.i += 12
			return r, nil
		}
	}
	return 0, s.fail(`\u%04x is half of a surrogate pair without the other half`, hi)
}

func (s *scanner) hex4(at int) (rune, bool) {
	if at+6 > len(s.b) || s.b[at] != '\\' || s.b[at+1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(s.b[at+2:at+6]), 16, 16)
	return rune(v), err == nil
}

// value skips any value, checking its form.
func (s *scanner) value(depth int) error {
	if depth > maxDepth {
		return s.fail("nested more than %d deep", maxDepth)
	}
	switch c := s.peek(); {
	case c == '"':
		_, err := s.str()
		return err
	case c == '{':
		return s.object(func(string) error { return s.value(depth + 1) })
	case c == '[':
		return s.list(func(int) error { return s.value(depth + 1) })
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	case c == '-' || c >= '0' && c <= '9':
		_, err := s.number()
		return err
	default:
		return s.fail("expected a value, found %s", s.found())
	}
}

func (s *scanner) word(w string) error {
	if !strings.HasPrefix(string(s.b[s.i:min(len(s.b), s.i+len(w))]), w) {
		return s.fail("expected %s", w)
	}
	s.i += len(w)
	return nil
}

// number returns the literal of a number as it is written.
func (s *scanner) number() (string, error) {
	start := s.i
	digits := func() bool {
		from := s.i
		for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
			s.i++
		}
		return s.i > from
	}
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !digits() {
		return "", s.fail("expected a digit, found %s", s.found())
	}
	if s.peek() == '.' {
		s.i++
		if !digits() {
			return "", s.fail("expected a digit after the point, found %s", s.found())
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !digits() {
			return "", s.fail("expected a digit in the exponent, found %s", s.found())
		}
	}
	return string(s.b[start:s.i]), nil
}
