package tokenize

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// o200kPattern is that of the tokenizers of gpt-4o and gpt-oss.
const o200kPattern = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|` +
	`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|` +
	`\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`

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
		{o200kPattern, "I'M HTTPServer's OK'LL 1234 x/\n été'Sé'd", []string{"I'M", " HTTPServer's", " OK'LL", " ", "123", "4", " x", "/\n", " été'S", "é'd"}},
		{o200kPattern, "HelloWorld ÀÉx 'sa ab'c", []string{"Hello", "World", " ÀÉx", " '", "sa", " ab", "'c"}},
		{`a+(?:b|bc)?`, "aabca", []string{"aab", "c", "a"}},
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

// TestPatternO200k: random strings as the reference's Split cuts them by this expression (tokenizers 0.23).
func TestPatternO200k(t *testing.T) {
	p, err := compilePattern(o200kPattern)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile("testdata/o200k.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		var row struct {
			Text   string
			Pieces []string
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		if got := pieces(p, row.Text); !slices.Equal(got, row.Pieces) {
			t.Errorf("pieces(%q) = %q, want %q", row.Text, got, row.Pieces)
		}
	}
}

func TestPatternRefuses(t *testing.T) {
	for _, text := range []string{
		``, `a*`, `(a+)+`, `(?<=a)b`, `(a)\1`, `a+?`, `^a`, `a$`, `.`, `[a`, `(a`, `a)`, `a{2`, `a{3,1}`, `\p{Greek}`, `\pL`, `\`, `[]`, `[a-`,
		`(?i:[a-z])`, `a(b)?c`, `a(b)*`, `a(b+)?`, `a(b)?+`, `a(b(c)?)?`, `a+(b|c)`, `a+b+c+`, `[[a]b]`, `a{2}+`, `(?=a)b`, `\b`, `[b-a]`, strings.Repeat("(", 30) + "a" + strings.Repeat(")", 30),
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
