package evaluate

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"pgregory.net/rapid"
)

// Search against every score sorted by the rule of trec_eval: ties, documents that are all alike, values whose products
// leave float32's range on the way, and a corpus that comes in parts.
func TestSearchIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 5).Draw(t, "width")
		q := rapid.IntRange(1, 70).Draw(t, "queries")
		d := rapid.IntRange(1, 1500).Draw(t, "documents")
		k := rapid.IntRange(1, 20).Draw(t, "k")
		kinds := rapid.IntRange(1, 6).Draw(t, "kinds of values")
		scale := rapid.SampledFrom([]float32{1, 1, 1e-30, 3e18, 5e18}).Draw(t, "scale")
		next := rapid.Uint64().Draw(t, "seed")
		value := func() float32 { // few values, so that many scores tie
			next = next*6364136223846793005 + 1442695040888963407
			return scale * float32(int(next>>40)%kinds-2) / 3
		}
		queries, documents := make([]float32, q*width), make([]float32, d*width)
		for i := range queries {
			queries[i] = value()
		}
		for i := range documents {
			documents[i] = value()
		}
		ids := make([]string, d)
		for i := range ids {
			ids[i] = fmt.Sprint("d", i)
		}
		got, err := Search(queries, documents, width, ids, k)
		if err != nil {
			t.Fatal(err)
		}
		place, sorted := places(ids)
		parts, cut := NewNearest(queries, width, k), rapid.IntRange(0, d).Draw(t, "cut")
		parts.Add(nil, documents[:cut*width], place[:cut])
		parts.Add(nil, documents[cut*width:], place[cut:])
		again, err := parts.Hits(sorted)
		if err != nil {
			t.Fatal(err)
		}
		for i := range q {
			var want []Hit
			for j := range d {
				sum := 0.0
				for c := range width {
					sum += float64(queries[i*width+c]) * float64(documents[j*width+c])
				}
				want = append(want, Hit{ids[j], float64(float32(sum))})
			}
			want = Rank(want, Single)[:min(k, d)]
			if !slices.Equal(got[i], want) {
				t.Fatalf("Search: query %d = %v, want %v", i, got[i], want)
			}
			if !slices.Equal(again[i], want) {
				t.Fatalf("Nearest, %d and %d documents: query %d = %v, want %v", cut, d-cut, i, again[i], want)
			}
		}
	})
}

func TestScore(t *testing.T) {
	sheet := &data.Sheet{
		Name: "s", Queries: []string{"a", "b"}, Documents: []string{"x", "y", "z"},
		Qrels: data.Qrels{"a": {"x": 1}, "b": {"z": 1, "x": 1}},
	}
	rows := []float32{
		1, 0, // a: x first
		0, 1, // b: y, then z, then x
		1, 0,
		0, 1,
		0.6, 0.8,
	}
	got, err := Score(sheet, rows, 2)
	if err != nil {
		t.Fatal(err)
	}
	ideal := 1 + 1/math.Log2(3)
	want := map[string]float64{
		"ndcg@1": 0.5, "ndcg@5": (1 + (1/math.Log2(3)+1/math.Log2(4))/ideal) / 2, MainScore: (1 + (1/math.Log2(3)+1/math.Log2(4))/ideal) / 2,
		"ndcg@10": (1 + (1/math.Log2(3)+1/math.Log2(4))/ideal) / 2, "mrr@10": 0.75, "recall@1": 0.5, "recall@10": 1, "recall@100": 1,
		"map": (1 + (1.0/2+2.0/3)/2) / 2, "r@1": 0.5, "success@1": 0.5,
	}
	for _, name := range Metrics() {
		if math.Abs(got[name]-want[name]) > 1e-12 || len(got) != len(want) {
			t.Errorf("Score: %s = %v, want %v", name, got[name], want[name])
		}
	}
	run, err := Retrieve(sheet, rows, 2)
	if err != nil || len(run["b"]) != 3 || run["b"][0].Document != "y" || run["b"][2].Document != "x" {
		t.Errorf("Retrieve() = %v, %v, want y, z, x for b", run, err)
	}
	rows[3] = float32(math.NaN())
	if _, err := Score(sheet, rows, 2); !errors.Is(err, ErrNonFinite) {
		t.Errorf("Score of NaN = %v, want ErrNonFinite", err)
	}
	if _, err := Score(sheet, rows[1:], 2); err == nil {
		t.Error("Score of too few values = no error, want one")
	}
}

func TestSingular(t *testing.T) {
	for word, want := range map[string]string{
		"libraries": "library", "files": "file", "boxes": "boxe", "bus": "bus", "class": "class", "shoes": "shoes", "as": "as", "é": "é", "keys": "key",
	} {
		if got := singular(word); got != want {
			t.Errorf("singular(%q) = %q, want %q", word, got, want)
		}
	}
}

// blanks is a tokenizer for suites whose tokens do not matter.
type blanks struct{}

func (blanks) Encode(dst []int32, text string) []int32 {
	for range strings.FieldsSeq(text) {
		dst = append(dst, 1)
	}
	return dst
}
func (blanks) Digest() string { return "blanks" }

// The quickstart's README names the figures of its own BM25, whose splitting of words it does not tell: about one
// query of 500 is ranked otherwise.
func TestLexicalQuickstart(t *testing.T) {
	suite, err := data.OpenSuite(data.SuiteConfig{Path: "../../configs/quickstart/dev", MaxLength: 512}, blanks{}, t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer suite.Close()
	got, err := Lexical(suite)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(got)
	if math.Abs(got["ndcg@10"]-0.8914) > 0.003 || math.Abs(got["recall@100"]-0.966) > 0.001 {
		t.Errorf("Lexical = nDCG@10 %.4f, R@100 %.4f, want 0.8914 and 0.966", got["ndcg@10"], got["recall@100"])
	}
}

// The size of COUNTERPOINT_SEARCH=QUERIESxDOCUMENTSxWIDTH, 1,000 best; scripts compare it with other libraries.
func BenchmarkSearch(b *testing.B) {
	q, d, width := 500, 20_000, 128
	if size := os.Getenv("COUNTERPOINT_SEARCH"); size != "" {
		if _, err := fmt.Sscanf(size, "%dx%dx%d", &q, &d, &width); err != nil {
			b.Fatalf("COUNTERPOINT_SEARCH=%s: %v", size, err)
		}
	}
	rows, random := make([]float32, (q+d)*width), rand.New(rand.NewPCG(1, 2))
	for i := range rows {
		rows[i] = float32(random.NormFloat64())
	}
	ids := make([]string, d)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	b.Run(fmt.Sprintf("%dx%dx%d", q, d, width), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Search(rows[:q*width], rows[q*width:], width, ids, depth); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(2*float64(q)*float64(d)*float64(width)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	})
}
