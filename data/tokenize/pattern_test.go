package tokenize

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func pieces(p *pattern, s string) (out []string) {
	for s != "" {
		n, _ := p.cut(s)
		out = append(out, s[:n])
		s = s[n:]
	}
	return out
}

func TestPattern(t *testing.T) {
	const qwen = qwenPattern
	tests := []struct {
		pattern, text string
		want          []string
	}{
		{gpt2Pattern, "I'm  here\n\n x1!", []string{"I", "'m", " ", " here", "\n\n", " x", "1", "!"}},
		{qwen, "I'M  here\n\n x12!\n y", []string{"I", "'M", " ", " here", "\n\n", " x", "1", "2", "!\n", " y"}},
		{qwen, "'\u017fa", []string{"'\u017f", "a"}},
		{strings.Replace(qwen, `\p{N}|`, `\p{N}{1,3}|`, 1), "12345", []string{"123", "45"}},
		{`\p{L}+`, "ab, cd.", []string{"ab", ", ", "cd", "."}},
		{`[^\S\n]+|\n`, " \n\t", []string{" ", "\n", "\t"}},
		{`a++ab|\S`, "aaab", []string{"a", "a", "a", "b"}},
		{`x(?:b|c)d`, "xbdxcdx", []string{"xbd", "xcd", "x"}},
	}
	for _, tt := range tests {
		p, err := compilePattern(tt.pattern)
		if err != nil {
			t.Errorf("compilePattern(%q): %v", tt.pattern, err)
			continue
		}
		if got := pieces(p, tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("pieces(%q, %q) = %q, want %q", tt.pattern, tt.text, got, tt.want)
		}
	}
}

func TestPatternRefuses(t *testing.T) {
	for _, text := range []string{
		``, `a*`, `(a+)+`, `(?<=a)b`, `(a)\1`, `a+?`, `^a`, `a$`, `.`, `[a`, `(a`, `a)`, `a{2`, `a{3,1}`, `\p{Greek}`, `\pL`, `\`, `[]`, `[a-`,
		`(?i:[a-z])`, `a+(b|c)`, `a+b+c+`, `[[a]b]`, `a{2}+`, `(?=a)b`, `\b`, `[b-a]`, strings.Repeat("(", 30) + "a" + strings.Repeat(")", 30),
	} {
		if _, err := compilePattern(text); err == nil {
			t.Errorf("compilePattern(%q) accepted, want an error", text)
		}
	}
}

// TestPatternEqualsRegexp compares with Go's engine, which lacks the look-ahead: expressions without it must cut
// alike, with leftmost-first preference.
func TestPatternEqualsRegexp(t *testing.T) {
	const seed = 9
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, text := range []string{
		`'s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+`,
		`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}`,
		`\p{L}{2,3}\p{N}?|(?i:s|[k])e*|T`,
	} {
		p, err := compilePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		// Go's \s is ASCII only: both get the same set spelt out.
		re := regexp.MustCompile(strings.NewReplacer(`[^\s`, `[^\t-\r \x{85}\p{Z}`, `\s+`, `[\t-\r \x{85}\p{Z}]+`).Replace(text))
		for range 5000 {
			in := randomText(rng, 20)
			var want []string
			done := 0
			for _, m := range re.FindAllStringIndex(in, -1) {
				if m[0] > done {
					want = append(want, in[done:m[0]])
				}
				want = append(want, in[m[0]:m[1]])
				done = m[1]
			}
			if done < len(in) {
				want = append(want, in[done:])
			}
			if got := pieces(p, in); !slices.Equal(got, want) {
				t.Fatalf("pieces(%q, %q) = %q, want %q", text, in, got, want)
			}
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add(gpt2Pattern, "I'm here")
	f.Add(qwenPattern, "x  \n y")
	f.Fuzz(func(t *testing.T, text, in string) {
		if len(text) > 300 || len(in) > 300 {
			return
		}
		p, err := compilePattern(text)
		if err != nil {
			return
		}
		if got := strings.Join(pieces(p, in), ""); got != in {
			t.Fatalf("pieces of %q by %q join to %q", in, text, got)
		}
	})
}
