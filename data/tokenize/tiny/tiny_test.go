package tiny

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/tokenize"
)

var _ data.Tokenizer = (*tokenize.Tokenizer)(nil)

// TestFilesMakeAFolder writes the files as a checkpoint does and opens the folder.
func TestFilesMakeAFolder(t *testing.T) {
	dir := t.TempDir()
	for name, content := range Files().Contents() {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := tokenize.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest() != want.Digest() || got.Specials() != want.Specials() || got.Size() != want.Size() {
		t.Errorf("the folder's tokenizer is %s, %v, %d tokens, want %s, %v, %d", got.Digest(), got.Specials(), got.Size(), want.Digest(), want.Specials(), want.Size())
	}
}

func TestOpen(t *testing.T) {
	tok, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	s := tok.Specials()
	if want := (tokenize.Specials{BOS: 2, EOS: 3, Pad: 0, Mask: 1, Unknown: -1}); s != want {
		t.Errorf("Specials() = %+v, want %+v", s, want)
	}
	text := "A <|mask|> library (shared), naïve 文 🙂\n"
	ids := tok.Encode(nil, text)
	if got := tok.Decode(ids, false); got != text {
		t.Errorf("Decode(Encode(%q)) = %q", text, got)
	}
	if !slices.Contains(ids, s.Mask) {
		t.Errorf("Encode(%q) = %v, want the mask's id %d in it", text, ids, s.Mask)
	}
	if word, ok := tok.ID("Ġlibrary"); !ok || !slices.Contains(tok.Encode(nil, "a library"), word) {
		t.Errorf("the texts' commonest noun is not a token of its own: %d, %v", word, ok)
	}
}
