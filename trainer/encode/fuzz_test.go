package encode

import (
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzLines: any input gives texts or an error, never a panic, and no text that is not UTF-8.
func FuzzLines(f *testing.F) {
	for _, seed := range []string{`"a"`, `{"text":"a","id":1}`, "\n\n{\"text\":\"\",\"_id\":\"x\",\"title\":\"t\"}\n", `{"text":null}`, `[`, "\xff", `"\ud800"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input string) {
		l := newLines("in", strings.NewReader(input))
		for n := 0; ; n++ {
			line, err := l.next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !strings.HasPrefix(err.Error(), "in:") {
					t.Fatalf("error %v names no line", err)
				}
				return
			}
			if !utf8.ValidString(line.Text) || n > len(input) {
				t.Fatalf("text %q of %q", line.Text, input)
			}
		}
	})
}
