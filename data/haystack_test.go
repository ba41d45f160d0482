package data

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"
)

// pieces is a tokenizer whose tokens are words with the blank before them, cut to four bytes: joined texts may have fewer
// tokens than their parts.
type pieces struct{}

func (pieces) Digest() string { return "pieces" }
func (pieces) Encode(dst []int32, text string) []int32 {
	start := 0
	for i := range len(text) {
		if i+1 == len(text) || i-start == 3 || unicode.IsSpace(rune(text[i+1])) {
			h := int32(0)
			for _, c := range []byte(text[start : i+1]) {
				h = h*31 + int32(c)
			}
			dst = append(dst, h)
			start = i + 1
		}
	}
	return dst
}

// Lengths are exact, each query has one answer, and a key is nowhere else.
func TestHaystack(t *testing.T) {
	filler := filepath.Join(t.TempDir(), "filler.txt")
	if err := os.WriteFile(filler, []byte("Der Wald war still. Nur ein Specht klopfte! Wer hört das?\nEs wurde Abend."), 0o644); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		h := Haystack{
			Task: rapid.SampledFrom([]string{Passkey, Needle}).Draw(t, "task"), Length: rapid.IntRange(60, 900).Draw(t, "length"),
			Queries: rapid.IntRange(1, 8).Draw(t, "queries"), Documents: rapid.IntRange(8, 20).Draw(t, "documents"),
			Seed: rapid.Uint64().Draw(t, "seed"), Filler: rapid.SampledFrom([]string{"", filler}).Draw(t, "filler"),
		}
		hay, err := h.Generate(pieces{})
		if err != nil {
			t.Fatal(err)
		}
		if len(hay.Queries) != h.Queries || len(hay.Documents) != h.Documents {
			t.Fatalf("%d queries and %d documents, want %d and %d", len(hay.Queries), len(hay.Documents), h.Queries, h.Documents)
		}
		for i, d := range hay.Documents {
			if got := len(pieces{}.Encode(nil, d)); got != h.Length {
				t.Errorf("document %d has %d tokens, want %d", i, got, h.Length)
			}
			for j, key := range hay.Keys {
				if got := strings.Contains(d, key); got != (i == j) {
					t.Errorf("document %d contains the key of %d: %v", i, j, got)
				}
			}
		}
		asked := map[int]bool{}
		for i, q := range hay.Queries {
			if asked[hay.Answer[i]] {
				t.Errorf("two queries ask for document %d", hay.Answer[i])
			}
			asked[hay.Answer[i]] = true
			if h.Task == Passkey && strings.Contains(q, hay.Keys[hay.Answer[i]]) {
				t.Errorf("query %q tells the key %s", q, hay.Keys[hay.Answer[i]])
			}
		}
		again, err := h.Generate(pieces{})
		if err != nil || strings.Join(again.Documents, "") != strings.Join(hay.Documents, "") {
			t.Errorf("the same haystack twice differs (%v)", err)
		}
	})
}

// A filler that happens to have the keys gives none of them away.
func TestHaystackFillerWithKeys(t *testing.T) {
	for _, task := range []string{Passkey, Needle} {
		h := Haystack{Task: task, Length: 200, Queries: 4, Documents: 8, Seed: 5}
		plain, err := h.Generate(pieces{})
		if err != nil {
			t.Fatal(err)
		}
		h.Filler = filepath.Join(t.TempDir(), "filler.txt")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(h.Filler, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		leaks := "I heard of " + strings.Join(plain.Keys, ". They told me of ") + "."
		write(leaks + " The wood was still. Who knocks there?")
		hay, err := h.Generate(pieces{})
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range hay.Documents {
			for j, key := range hay.Keys {
				if got := strings.Contains(d, key); got != (i == j) {
					t.Errorf("%s: document %d contains the key of %d: %v", task, i, j, got)
				}
			}
		}
		write(leaks)
		if _, err := h.Generate(pieces{}); err == nil || !strings.Contains(err.Error(), "what a document hides") {
			t.Errorf("%s from a filler of keys alone = %v", task, err)
		}
	}
}

// The fact lies at the start of some documents, in the middle and at the end of others.
func TestHaystackDepth(t *testing.T) {
	seed := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)).Uint64()
	t.Log("seed", seed)
	hay, err := Haystack{Task: Passkey, Length: 1000, Seed: seed}.Generate(pieces{})
	if err != nil {
		t.Fatal(err)
	}
	var third [3]int
	for i, d := range hay.Documents {
		third[min(2, 3*strings.Index(d, hay.Keys[i])/len(d))]++
	}
	if min(third[0], third[1], third[2]) < 10 {
		t.Errorf("facts in the first, second and last third of 100 documents: %v, want at least 10 in each", third)
	}
}

func TestHaystackRefuses(t *testing.T) {
	for _, c := range []struct {
		h    Haystack
		want string
	}{
		{Haystack{Task: "haystack", Length: 100}, "passkey and needle are known"},
		{Haystack{Task: Passkey, Length: 5}, "tokens itself"},
		{Haystack{Task: Passkey, Length: 100, Queries: 5, Documents: 4}, "5 queries over 4 documents"},
		{Haystack{Task: Needle, Length: 100, Filler: "/nowhere/filler.txt"}, "filler"},
	} {
		if _, err := c.h.Generate(pieces{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Generate(%+v) = %v, want %q", c.h, err, c.want)
		}
	}
}
