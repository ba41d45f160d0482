package data

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// words is a tokenizer with a token for every word; equal words have equal ids.
type words struct{ name string }

func (w words) Encode(dst []int32, text string) []int32 {
	for word := range strings.FieldsSeq(text) {
		h := uint64(0)
		for _, c := range []byte(word) {
			h = mix(h, uint64(c))
		}
		dst = append(dst, int32(h%50000))
	}
	return dst
}

func (w words) Digest() string { return "words" + w.name }

var quiet = slog.New(slog.DiscardHandler)

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	raw := []byte(text)
	if strings.HasSuffix(name, ".gz") {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(raw); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		raw = b.Bytes()
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// someRows makes n rows of texts of different lengths, with a blank line in between.
func someRows(n int) string {
	var b strings.Builder
	for i := range n {
		long := strings.Repeat("word ", i%17)
		fmt.Fprintf(&b, `{"task":"find it","query":"query %d %s","positive":["doc %d a","doc %d b %s"],"negatives":["not %d","nor %d"]}`+"\n\n", i, long, i, i, long, i, i)
	}
	return b.String()
}

func open(t testing.TB, order Order, cache string, sources ...Source) *Set {
	t.Helper()
	s, err := Open(sources, order, words{}, cache, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// shards reads a whole batch and checks what holds of every batch.
func shards(t testing.TB, s *Set, step int64) (Header, map[int32]Text) {
	t.Helper()
	b, err := s.Batch(step)
	if err != nil {
		t.Fatal(err)
	}
	slots := map[int32]Text{}
	last := 0
	for i, n := range b.Header.Tokens {
		shard, err := b.Shard(i)
		if err != nil {
			t.Fatal(err)
		}
		if shard.Index != i || shard.Tokens() != int(n) {
			t.Errorf("Shard(%d) = index %d of %d tokens, want %d tokens", i, shard.Index, shard.Tokens(), n)
		}
		if int(n) > s.ShardTokens() && len(shard.Texts) > 1 {
			t.Errorf("Shard(%d) has %d tokens in %d texts, want at most %d", i, n, len(shard.Texts), s.ShardTokens())
		}
		for _, x := range shard.Texts {
			if len(x.Tokens) < last {
				t.Errorf("Shard(%d): a text of %d tokens after one of %d", i, len(x.Tokens), last)
			}
			last = len(x.Tokens)
			if _, ok := slots[x.Slot]; ok {
				t.Errorf("Shard(%d): slot %d twice", i, x.Slot)
			}
			slots[x.Slot] = x
		}
	}
	if len(slots) != b.Header.Slots {
		t.Errorf("batch %d has %d texts, want %d", step, len(slots), b.Header.Slots)
	}
	return b.Header, slots
}

func TestBatchSlots(t *testing.T) {
	for _, name := range []string{"rows.jsonl", "rows.jsonl.gz"} {
		t.Run(name, func(t *testing.T) {
			path := write(t, name, someRows(40))
			order := Order{Batch: 8, HardNegatives: 1, MaxLength: 12, ShardTokens: 40, Seed: 7}
			s := open(t, order, t.TempDir(), Source{Path: path, Document: "passage"})
			if got, err := s.Instruction(); err != nil || got != "find it" {
				t.Errorf("Instruction() = %q, %v, want %q", got, err, "find it")
			}
			for step := range int64(12) {
				h, slots := shards(t, s, step)
				draws := s.Draws(step)
				for i, d := range draws {
					q, p, n := slots[int32(i)], slots[int32(8+i)], slots[int32(16+i)]
					want := func(text string) []int32 { e := words{}.Encode(nil, text); return e[:min(len(e), 12)] }
					long := strings.Repeat("word ", int(d.Row)%17)
					docs := []string{fmt.Sprintf("doc %d a", d.Row), fmt.Sprintf("doc %d b %s", d.Row, long)}
					nots := []string{fmt.Sprintf("not %d", d.Row), fmt.Sprintf("nor %d", d.Row)}
					e := d.Epoch % 2
					if got := q.Tokens; !cmp.Equal(got, want(fmt.Sprintf("find it: query %d %s", d.Row, long))) || q.Prompt != 2 || q.Role != Query || q.Row != d.Row {
						t.Errorf("step %d: query %d = %+v", step, i, q)
					}
					if got := p.Tokens; !cmp.Equal(got, want("passage: "+docs[e])) || p.Prompt != 1 || p.Role != Positive || p.Index != int32(e) || p.Doc != h.Docs[i] {
						t.Errorf("step %d: positive %d = %+v, want %q", step, i, p, docs[e])
					}
					if got := n.Tokens; !cmp.Equal(got, want("passage: "+nots[e])) || n.Role != Negative || n.Index != int32(e) || n.Doc != h.Docs[8+i] {
						t.Errorf("step %d: negative %d = %+v, want %q", step, i, n, nots[e])
					}
					if where, line := s.Where(d.Source, d.Row), 2*d.Row+1; where != fmt.Sprintf("%s:%d", path, line) {
						t.Errorf("Where(%d) = %s, want line %d", d.Row, where, line)
					}
				}
			}
		})
	}
}

// The cached index gives the same batches as the one just made; a damaged one is made again; other settings and
// other contents get their own.
func TestIndexCache(t *testing.T) {
	path := write(t, "rows.jsonl.gz", someRows(30))
	cache := t.TempDir()
	order := Order{Batch: 4, HardNegatives: 2, MaxLength: 64, Seed: 1}
	a := open(t, order, cache, Source{Path: path})
	indexes, _ := filepath.Glob(filepath.Join(cache, "*.index"))
	if len(indexes) != 1 {
		t.Fatalf("%d indexes in the cache, want 1", len(indexes))
	}
	b := open(t, order, cache, Source{Path: path})
	if err := os.WriteFile(indexes[0], []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := open(t, order, cache, Source{Path: path})
	for step := range int64(10) {
		ha, sa := shards(t, a, step)
		for name, other := range map[string]*Set{"cached": b, "made again": c} {
			ho, so := shards(t, other, step)
			if d := cmp.Diff(ha, ho) + cmp.Diff(sa, so); d != "" {
				t.Errorf("batch %d of the index %s differs: %s", step, name, d)
			}
		}
	}
	for name, other := range map[string]Source{
		"limit": {Path: path, Limit: 29}, "instruction": {Path: path, Instruction: "x"}, "document": {Path: path, Document: "x"},
		"on_error": {Path: path, OnError: "skip"}, "content": {Path: write(t, "rows.jsonl.gz", someRows(31))}, "weight": {Path: path, Weight: 2},
	} {
		if s := open(t, order, cache, other); s.Digest() == a.Digest() {
			t.Errorf("another %s has the same data digest %s", name, s.Digest())
		}
	}
	if b.Digest() != a.Digest() {
		t.Errorf("Digest() of the same data = %s and %s", a.Digest(), b.Digest())
	}
}

func TestChangedFileIsNoticed(t *testing.T) {
	path := write(t, "rows.jsonl", someRows(20))
	s := open(t, Order{Batch: 20, MaxLength: 64}, t.TempDir(), Source{Path: path})
	raw, _ := os.ReadFile(path)
	if err := os.WriteFile(path, bytes.Replace(raw, []byte("query 7"), []byte("query 8"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := s.Batch(0)
	if err != nil {
		t.Fatal(err)
	}
	var got error
	for i := range b.Header.Tokens {
		if _, err := b.Shard(i); err != nil {
			got = err
		}
	}
	if want := path + ":15: the file has changed since it was indexed"; got == nil || !strings.Contains(got.Error(), want) {
		t.Errorf("Shard of a changed file = %v, want %q", got, want)
	}
}

// What is kept in memory of a file does not grow with its texts.
func TestMemory(t *testing.T) {
	const rows, long = 500, 40_000
	var b strings.Builder
	for i := range rows {
		fmt.Fprintf(&b, `{"query":"query %d","positive":"doc %d %s"}`+"\n", i, i, strings.Repeat("words ", long/6))
	}
	path := write(t, "rows.jsonl.gz", b.String())
	b.Reset()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := open(t, Order{Batch: 8, MaxLength: 16}, t.TempDir(), Source{Path: path})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > rows*long/20 {
		t.Errorf("Open keeps %d bytes of %d bytes of texts", grown, rows*long)
	}
	shards(t, s, 0)
}

func TestSkip(t *testing.T) {
	path := write(t, "rows.jsonl", someRows(3)+"{\n"+`{"query":"a"}`+"\n"+someRows(2))
	s := open(t, Order{Batch: 2, MaxLength: 64}, t.TempDir(), Source{Path: path, OnError: "skip"})
	got := s.Stats().Sources[0]
	if got.Rows != 5 || got.Skipped != 2 || len(got.Faults) != 2 || !strings.Contains(got.Faults[1], path+":8: key \"positive\"") {
		t.Errorf("Stats() = %+v, want 5 rows, 2 skipped, the second in line 8", got)
	}
	if got.Duplicates != 4 {
		t.Errorf("Stats().Duplicates = %d, want 4", got.Duplicates)
	}
}

func TestOpenRefuses(t *testing.T) {
	path := write(t, "rows.jsonl", someRows(10))
	bad := write(t, "bad.jsonl", someRows(2)+"{]\n")
	one := []Source{{Path: path}}
	for _, c := range []struct {
		name    string
		sources []Source
		order   Order
		want    string
	}{
		{"no sources", nil, Order{Batch: 2, MaxLength: 8}, "no sources"},
		{"no file", []Source{{Path: path + "x"}}, Order{Batch: 2, MaxLength: 8}, path + "x: no such file"},
		{"empty folder", []Source{{Path: t.TempDir()}}, Order{Batch: 2, MaxLength: 8}, "no rows in the folder; needed are files ending in .jsonl"},
		{"batch too large", one, Order{Batch: 11, MaxLength: 8}, path + " has 10 rows, fewer than the 11"},
		{"batch too large for all", one, Order{Batch: 12, Group: 4, MaxLength: 8}, "10 rows in all sources, fewer than train.batch 12"},
		{"no batch", one, Order{MaxLength: 8}, "train.batch: 0; at least 1"},
		{"group", one, Order{Batch: 10, Group: 4, MaxLength: 8}, "group: 4; 0 (one source a batch) or a divisor of the batch 10"},
		{"remainder", one, Order{Batch: 2, Remainder: "keep", MaxLength: 8}, `remainder: "keep"; wrap and drop are allowed`},
		{"on_error", []Source{{Path: path, OnError: "ignore"}}, Order{Batch: 2, MaxLength: 8}, `on_error: "ignore"; refuse and skip are allowed`},
		{"weight", []Source{{Path: path, Weight: -1}}, Order{Batch: 2, MaxLength: 8}, "weight: -1; a positive number is allowed"},
		{"bad line", []Source{{Path: bad}}, Order{Batch: 2, MaxLength: 8}, bad + ":5:2: "},
		{"max_length", one, Order{Batch: 2}, "train.max_length: 0; at least 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.sources, c.order, words{}, t.TempDir(), quiet)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open = %v, want %q", err, c.want)
			}
		})
	}
}

func TestLanguageTexts(t *testing.T) {
	path := write(t, "rows.jsonl", someRows(12))
	for _, c := range []struct {
		texts string
		each  int
		roles string
	}{{"all", 5, "QPPNN"}, {"documents", 4, "PPNN"}, {"queries", 1, "Q"}} {
		order := Order{Batch: 6, MaxLength: 10, ShardTokens: 64, Texts: c.texts}
		s := open(t, order, t.TempDir(), Source{Path: path})
		order.Predicted = true
		predicted := open(t, order, t.TempDir(), Source{Path: path})
		h, slots := shards(t, s, 3)
		hp, _ := shards(t, predicted, 3)
		tokens, roles := 0, ""
		for i := range c.each {
			roles += string("QPN"[slots[int32(i)].Role])
		}
		for _, x := range slots {
			tokens += len(x.Tokens)
		}
		if h.Queries != 0 || h.Slots != 6*c.each || roles != c.roles || h.Divisor != float64(tokens) || hp.Divisor != float64(tokens-h.Slots) {
			t.Errorf("%s: header %+v, roles %s, %d tokens, predicted %v; want %d texts, %s", c.texts, h, roles, tokens, hp.Divisor, 6*c.each, c.roles)
		}
	}
}

// Packing: the cover of the texts is exact, no shard is above the limit but single texts, no packing in this
// order has fewer shards or a shorter longest shard.
func TestPack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 60).Draw(t, "limit")
		lengths := rapid.SliceOfN(rapid.Int32Range(1, 40), 1, 30).Draw(t, "lengths")
		var p pack
		refs := make([]ref, len(lengths))
		longest := int32(0)
		for i, n := range lengths {
			refs[i] = ref{slot: int32(i), tokens: n}
			longest = max(longest, n)
		}
		got := p.pack(refs, limit)
		top := int32(0)
		for i, n := range got {
			sum := int32(0)
			for _, r := range p.refs[p.cuts[i]:p.cuts[i+1]] {
				sum += r.tokens
			}
			if sum != n || p.cuts[i+1] <= p.cuts[i] || int(n) > limit && p.cuts[i+1]-p.cuts[i] > 1 {
				t.Fatalf("shard %d of %v has %d tokens, limit %d", i, got, sum, limit)
			}
			top = max(top, n)
		}
		if p.cuts[len(got)] != len(refs) {
			t.Fatalf("%d of %d texts are in shards", p.cuts[len(got)], len(refs))
		}
		// Dynamic program: best[k][i] = shortest longest shard of the first i texts in k shards.
		const never = int32(1 << 30)
		n := len(refs)
		before := make([]int32, n+1)
		for i := range before {
			before[i] = never
		}
		before[0] = 0
		for k := 1; ; k++ {
			next := make([]int32, n+1)
			for i := range next {
				next[i] = never
				sum := int32(0)
				for j := i - 1; j >= 0; j-- {
					sum += p.refs[j].tokens
					if int(sum) > limit && j < i-1 {
						break
					}
					next[i] = min(next[i], max(before[j], sum))
				}
			}
			if next[n] < never {
				if k != len(got) || next[n] != top && int(longest) <= limit {
					t.Fatalf("pack(%v, %d) = %v, want %d shards of at most %d", lengths, limit, got, k, next[n])
				}
				return
			}
			before = next
		}
	})
}

func FuzzDecodeIndex(f *testing.F) {
	x := &index{offsets: []int64{0}, sizes: []uint32{9}, lines: []uint32{1}, first: []uint32{0, 2}, positives: []uint16{1}, hashes: []uint64{1, 2}, lengths: []uint32{3, 4}, ids: []string{"a"}}
	body := x.marshal()
	f.Add(body[:len(body)-32])
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decodeIndex(sealed(body))
		if err == nil {
			if again, err := decodeIndex(got.marshal()); err != nil || cmp.Diff(got, again, cmp.AllowUnexported(index{})) != "" {
				t.Fatalf("an index changes when written again: %v", err)
			}
		}
	})
}

// sealed adds the check sum that decodeIndex wants.
func sealed(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

// A dash as instruction takes the row's task away; a suite that follows the set's instruction gets none either.
func TestNoInstruction(t *testing.T) {
	path := write(t, "rows.jsonl", someRows(40))
	order := Order{Batch: 8, HardNegatives: 1, MaxLength: 12, ShardTokens: 40, Seed: 7}
	with := open(t, order, t.TempDir(), Source{Path: path})
	without := open(t, order, t.TempDir(), Source{Path: path, Instruction: NoInstruction})
	if got, err := without.Instruction(); err != nil || got != NoInstruction {
		t.Errorf("Instruction() = %q, %v, want %q", got, err, NoInstruction)
	}
	_, a := shards(t, with, 0)
	_, b := shards(t, without, 0)
	for slot := range int32(8) {
		if a[slot].Prompt == 0 || b[slot].Prompt != 0 {
			t.Errorf("query %d: %d prompt tokens with the task, %d with a dash; want some and none", slot, a[slot].Prompt, b[slot].Prompt)
		}
	}
}
