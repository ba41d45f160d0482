package tokenize

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(golden.Dir(f, "tokenizers"), "malformed", "*.json"))
	if err != nil || len(files) == 0 {
		f.Fatalf("%d seeds, %v", len(files), err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(content) < 5000 {
			f.Add(content, "the user 12 <|end|> x")
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, text string) {
		tok, err := Parse("fuzz", content)
		if err != nil {
			return
		}
		if len(text) > 1000 {
			return
		}
		for _, id := range tok.EncodeSpecial(nil, text) {
			_, _ = tok.Token(id)
		}
		tok.Decode(tok.Encode(nil, text), true)
	})
}

func FuzzRoundTrip(f *testing.F) {
	tok := openSynthetic(f, "bytelevel")
	f.Add("I'm  here\n\n x1! é文🙂")
	f.Fuzz(func(t *testing.T, text string) {
		if got := tok.Decode(tok.Encode(nil, text), false); got != strings.ToValidUTF8(text, "\uFFFD") {
			t.Fatalf("Decode(Encode(%q)) = %q", text, got)
		}
	})
}
