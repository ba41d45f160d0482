package data

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// counting counts how many texts are tokenised.
type counting struct {
	words
	texts *atomic.Int64
}

func (c counting) Encode(dst []int32, text string) []int32 {
	c.texts.Add(1)
	return c.words.Encode(dst, text)
}

// opened opens 60 rows and reads the first batch; tokenised is how many texts were tokenised for both.
func opened(t *testing.T, path, cache string) (shards []Shard, indexing, reading int64) {
	t.Helper()
	tok := counting{texts: new(atomic.Int64)}
	s, err := Open([]Source{{Path: path, Instruction: "find"}}, Order{Batch: 20, HardNegatives: 1, MaxLength: 6, Seed: 3}, tok, cache, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	indexing = tok.texts.Swap(0)
	b, err := s.Batch(0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Header.Tokens {
		x, err := b.Shard(i)
		if err != nil {
			t.Fatal(err)
		}
		shards = append(shards, x)
	}
	return shards, indexing, tok.texts.Load()
}

// TestTokens: a text is tokenised once; damage of the cached tokens is noticed, costs tokenising again, and is repaired
// at the next start. The batches are the same in any case.
func TestTokens(t *testing.T) {
	path, cache := write(t, "a.jsonl", someRows(60)), t.TempDir()
	want, first, reading := opened(t, path, cache)
	if first < 120 || reading > 1 { // one for the prompt
		t.Fatalf("%d texts tokenised while indexing and %d while reading, want all and the prompt", first, reading)
	}
	again := func(what string, indexes, tokenises bool) {
		t.Helper()
		got, indexing, reading := opened(t, path, cache)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: the batch differs: %s", what, d)
		}
		if indexing > 0 != indexes || reading > 1 != tokenises {
			t.Errorf("%s: %d texts tokenised while indexing and %d while reading, want some: %t and %t", what, indexing, reading, indexes, tokenises)
		}
	}
	file := func() string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(cache, "*.tokens"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%v, %v, want one file of tokens", found, err)
		}
		return found[0]
	}
	damage := func(change func(content []byte) []byte) {
		t.Helper()
		content, err := os.ReadFile(file())
		if err == nil {
			err = os.WriteFile(file(), change(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	again("cached", false, false)
	damage(func(c []byte) []byte { return c[:len(c)-1] })
	again("cut", true, false)
	again("after a cut", false, false)
	damage(func(c []byte) []byte { c[3] ^= 1; return c })
	again("another magic", true, false)
	damage(func(c []byte) []byte {
		for i := len(tokensMagic); i < len(c); i += 5 {
			c[i] ^= 4
		}
		return c
	})
	again("changed ids", false, true)
	again("after changed ids", true, false)
	if err := os.Remove(file()); err != nil {
		t.Fatal(err)
	}
	again("removed", true, false)
}

// TestTokensBounded: tokens beyond the bound are not kept, and old ones make room for new ones.
func TestTokensBounded(t *testing.T) {
	defer func(before int64) { maxTokenStores = before }(maxTokenStores)
	cache := t.TempDir()
	a, b := write(t, "a.jsonl", someRows(60)), write(t, "b.jsonl", someRows(61))
	opened(t, a, cache)
	size := func() (n int, bytes int64) {
		found, err := filepath.Glob(filepath.Join(cache, "*.tokens"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			bytes += info.Size()
		}
		return len(found), bytes
	}
	_, one := size()
	maxTokenStores = one + one/2
	opened(t, b, cache)
	if n, bytes := size(); n != 1 || bytes > maxTokenStores {
		t.Errorf("%d files of %d bytes, want the newest within %d", n, bytes, maxTokenStores)
	}
	maxTokenStores = one / 2
	c := write(t, "c.jsonl", someRows(62))
	want, _, reading := opened(t, c, cache)
	if reading < 2 {
		t.Errorf("%d texts tokenised, want them to be: they do not fit", reading)
	}
	if got, indexing, _ := opened(t, c, cache); indexing != 0 || cmp.Diff(want, got) != "" {
		t.Errorf("%d texts tokenised to index a second time, want 0 and the same batch", indexing)
	}
}

// TestCacheVariable: a folder, or nothing that stays.
func TestCacheVariable(t *testing.T) {
	path, cache, other := write(t, "a.jsonl.gz", someRows(60)), t.TempDir(), t.TempDir()
	want, _, _ := opened(t, path, t.TempDir())
	t.Setenv(CacheVariable, other)
	got, _, _ := opened(t, path, cache)
	t.Setenv(CacheVariable, "off")
	t.Setenv("TMPDIR", t.TempDir())
	none, _, reading := opened(t, path, cache)
	if d := cmp.Diff(want, got) + cmp.Diff(want, none); d != "" {
		t.Errorf("the batch differs: %s", d)
	}
	if reading < 2 {
		t.Errorf("%d texts tokenised with the cache off, want all", reading)
	}
	for dir, n := range map[string]int{cache: 0, os.Getenv("TMPDIR"): 0, filepath.Join(other, "data"): 3} {
		if found, err := os.ReadDir(dir); err != nil || len(found) != n {
			t.Errorf("%s holds %v, %v, want %d files", dir, found, err, n)
		}
	}
}
