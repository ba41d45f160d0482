package tokenize

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

func openSynthetic(t testing.TB, name string) *Tokenizer {
	t.Helper()
	tok, err := Open(filepath.Join(golden.Dir(t, "tokenizers"), "synthetic", name))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// alphabet has letters, marks, digits, blanks and characters with odd properties.
var alphabet = []rune("aabcdeThe 's'T 123 \n\r\t\u00a0\u3000éÅſK文語ضπ٣½Ⅷ_-+/.!🙂\u0301\u0323\u200d\u1161\u11a8각가")

func randomText(rng *rand.Rand, n int) string {
	var out strings.Builder
	for range rng.IntN(n) {
		out.WriteRune(alphabet[rng.IntN(len(alphabet))])
	}
	return out.String()
}

func TestByDefinitionEqualsNorm(t *testing.T) {
	const seed = 3
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	marks := []rune("aeocs\u0300\u0301\u0323\u0327\u0344\u0f73\u1100\u1161\u11a8ﬁṩ각\u09c7\u09be①\u2126")
	for range 20_000 {
		var in []rune
		for range rng.IntN(8) {
			in = append(in, marks[rng.IntN(len(marks))])
		}
		for _, form := range []norm.Form{norm.NFC, norm.NFD, norm.NFKC, norm.NFKD} {
			if got, want := normalizeByDefinition(form, string(in)), form.String(string(in)); got != want {
				t.Fatalf("normalizeByDefinition(%d, %+q) = %+q, want %+q", form, string(in), got, want)
			}
		}
	}
}

func TestLongRunsOfMarksAreKept(t *testing.T) {
	in := "x" + strings.Repeat("\u0301", 200) + "e" + strings.Repeat("\u0323\u0301", 100)
	want := "x" + strings.Repeat("\u0301", 200) + "ẹ" + strings.Repeat("\u0323", 99) + strings.Repeat("\u0301", 100)
	if got := formNormalizer(norm.NFC).apply(in); got != want {
		t.Errorf("NFC of long runs = %+q, want %+q", got, want)
	}
}

// TestHeapEqualsScan compares the two ways of merging on the same words.
func TestHeapEqualsScan(t *testing.T) {
	const seed = 5
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	m := openSynthetic(t, "bytelevel").model
	for range 3000 {
		var units []int32
		for range 1 + rng.IntN(shortWord) {
			units = append(units, m.bytes["thelibraryofus "[rng.IntN(15)]])
		}
		scan, byHeap := slices.Clone(units), slices.Clone(units)
		scan = scan[:m.mergeShort(scan)]
		byHeap = byHeap[:m.mergeLong(byHeap)]
		if !slices.Equal(scan, byHeap) {
			t.Fatalf("mergeLong(%v) = %v, want %v as by mergeShort", units, byHeap, scan)
		}
	}
}

// TestCachedEqualsUncached encodes concurrently with a cache that is full of other words.
func TestCachedEqualsUncached(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	cached, plain := openSynthetic(t, "qwen-like"), openSynthetic(t, "qwen-like")
	plain.model.cacheableLen = -1
	texts := make([]string, 400)
	want := make([][]int32, len(texts))
	for i := range texts {
		texts[i] = randomText(rng, 200)
		want[i] = plain.Encode(nil, texts[i])
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range texts {
				i = (i*7 + w*100) % len(texts)
				if got := cached.Encode(nil, texts[i]); !slices.Equal(got, want[i]) {
					t.Errorf("Encode(%q) = %v, want %v", texts[i], got, want[i])
				}
			}
		})
	}
	wg.Wait()
}

func TestEncodeAppends(t *testing.T) {
	tok := openSynthetic(t, "bytelevel")
	got := tok.Encode([]int32{7, 8}, "the")
	if want := append([]int32{7, 8}, tok.Encode(nil, "the")...); !slices.Equal(got, want) {
		t.Errorf("Encode([7 8], the) = %v, want %v", got, want)
	}
}

func TestEncodeInvalidUTF8(t *testing.T) {
	tok := openSynthetic(t, "bytelevel")
	if got, want := tok.Encode(nil, "a\xffb"), tok.Encode(nil, "a\uFFFDb"); !slices.Equal(got, want) {
		t.Errorf("Encode(a\\xffb) = %v, want %v", got, want)
	}
}

func TestLossy(t *testing.T) {
	tests := []struct{ in, want string }{
		{"ok", "ok"},
		{"a\xe2\x82", "a\uFFFD"},
		{"\xe2\x82a", "\uFFFDa"},
		{"\xff\xfe", "\uFFFD\uFFFD"},
		{"\xf0\x9f\x98", "\uFFFD"},
		{"\xf0\x9f\xf0\x9f\x98\x80", "\uFFFD😀"},
		{"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"}, // a surrogate is no beginning of anything
		{"\xc0\x80", "\uFFFD\uFFFD"},
	}
	for _, tt := range tests {
		if got := lossy([]byte(tt.in)); got != tt.want {
			t.Errorf("lossy(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// TestHostileTextIsQuick bounds the time of texts that are bad for back-tracking and for merging.
func TestHostileTextIsQuick(t *testing.T) {
	texts := map[string]string{
		"letters":  strings.Repeat("a", 300_000),
		"blanks":   strings.Repeat(" ", 300_000),
		"newlines": strings.Repeat(" \n", 150_000),
		"marks":    strings.Repeat("\u0301", 100_000),
		"capitals": strings.Repeat("A", 300_000),
		"tokens":   strings.Repeat("<|", 150_000),
	}
	for _, file := range []string{"qwen-like", "tekken-like", "sp-prepend-replace", "added-flags"} {
		tok := openSynthetic(t, file)
		for name, text := range texts {
			start := time.Now()
			tok.Encode(nil, text)
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("%s: %s took %v", file, name, d)
			}
		}
	}
}

func TestSpecialsFromConfig(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(golden.Dir(t, "tokenizers"), "synthetic", "template-bos-eos", FileName)
	content, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	config := `{"bos_token":"<bos>","eos_token":{"content":"<eos>","lstrip":false},"pad_token":null}`
	for name, text := range map[string][]byte{FileName: content, ConfigName: []byte(config)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tok, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	bos, _ := tok.ID("<bos>")
	eos, _ := tok.ID("<eos>")
	if got, want := tok.Specials(), (Specials{bos, eos, -1, -1, -1}); got != want {
		t.Errorf("Specials() = %v, want %v", got, want)
	}
	before, after := tok.Around()
	if want := []int32{bos}; !slices.Equal(before, want) {
		t.Errorf("Around() = %v before, want %v", before, want)
	}
	if got, want := tok.EncodeSpecial(nil, "x"), slices.Concat(before, tok.Encode(nil, "x"), after); !slices.Equal(got, want) {
		t.Errorf("EncodeSpecial(x) = %v, want %v", got, want)
	}
}

func TestVocabMergesFaults(t *testing.T) {
	vocab := []byte(`{"a":0,"b":1,"ab":2}`)
	tests := []struct {
		name  string
		files Files
		want  string
	}{
		{"nothing", Files{}, "neither"},
		{"merge line", Files{Vocab: vocab, Merges: []byte("#version: 0.2\na b\nab\n")}, "line 3"},
		{"unknown merge", Files{Vocab: vocab, Merges: []byte("b a\n")}, `"ba"`},
		{"vocab", Files{Vocab: []byte("[1]"), Merges: []byte("a b\n")}, "vocab.json"},
		{"class", Files{Vocab: vocab, Merges: []byte("a b\n"), Config: []byte(`{"tokenizer_class":"LlamaTokenizer"}`)}, "LlamaTokenizer"},
		{"id", Files{Vocab: vocab, Merges: []byte("a b\n"), Config: []byte(`{"added_tokens_decoder":{"x":{"content":"<x>"}}}`)}, `"x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.files.Open("dir"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open() = %v, want an error with %s", err, tt.want)
			}
		})
	}
}

// TestSingleWord: what a token with single_word must not touch is \w of Rust's expressions.
func TestSingleWord(t *testing.T) {
	tok := openSynthetic(t, "added-flags")
	id, ok := tok.ID("word")
	if !ok {
		t.Fatal("the file has no token word")
	}
	for beside, want := range map[string]bool{"½": true, "-": true, " ": true, "🙂": true, "": true, "Ⅷ": false, "7": false, "_": false, "é": false, "\u0301": false, "\u200d": false} {
		for _, text := range []string{beside + "word", "word" + beside} {
			if got := slices.Contains(tok.Encode(nil, text), id); got != want {
				t.Errorf("Encode(%+q) finds the token: %t, want %t", text, got, want)
			}
		}
	}
}
