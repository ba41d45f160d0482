package vectors

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func key(i int) Key { return KeyOf(0, []int32{int32(i)}) }

func fill(t *testing.T, dir, model string, width int, keys ...int) {
	t.Helper()
	c, err := Open(dir, model, width, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		row := make([]float32, width)
		for i := range row {
			row[i] = float32(k) + float32(i)/8
		}
		if err := c.Put(key(k), row); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// found returns which of the keys 0 to 9 are there, each with its own row.
func found(t *testing.T, dir, model string, width int) []int {
	t.Helper()
	c, err := Open(dir, model, width, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out []int
	row := make([]float32, width)
	for k := range 10 {
		if !c.Get(key(k), row) {
			continue
		}
		for i, v := range row {
			if v != float32(k)+float32(i)/8 {
				t.Fatalf("embedding of %d = %v", k, row)
			}
		}
		out = append(out, k)
	}
	return out
}

func TestCache(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, "m", 3, 1, 2, 3)
	fill(t, dir, "m", 3, 5) // another process
	fill(t, dir, "other", 3, 7)
	fill(t, dir, "m", 2, 9) // another width under the same name is left alone
	for _, c := range []struct {
		model string
		width int
		want  []int
	}{{"m", 3, []int{1, 2, 3, 5}}, {"other", 3, []int{7}}, {"m", 2, []int{9}}, {"none", 3, nil}} {
		if got := found(t, dir, c.model, c.width); !slices.Equal(got, c.want) {
			t.Errorf("found(%s, %d) = %v, want %v", c.model, c.width, got, c.want)
		}
	}
}

// Whatever byte is hit, and wherever the file ends: the other records are read, and no wrong one.
func TestCacheDamage(t *testing.T) {
	whole := t.TempDir()
	fill(t, whole, "m", 2, 1, 2, 3)
	files, err := filepath.Glob(filepath.Join(whole, "m", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	size := len(Key{}) + 8 + 4
	if len(content) != header+3*size {
		t.Fatalf("%d bytes, want %d", len(content), header+3*size)
	}
	for at := range content {
		for _, cut := range []bool{false, true} {
			dir := t.TempDir()
			damaged := slices.Clone(content)
			damaged[at] ^= 0x10
			var want []int
			for k := range 3 {
				lo, hi := header+k*size, header+(k+1)*size
				if at >= header && (at >= hi || !cut && at < lo) {
					want = append(want, k+1)
				}
			}
			if cut {
				damaged = content[:at]
			}
			if err := os.MkdirAll(filepath.Join(dir, "m"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "m", "x"+ending), damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			if got := found(t, dir, "m", 2); !slices.Equal(got, want) {
				t.Fatalf("byte %d, cut there %v: found %v, want %v", at, cut, got, want)
			}
		}
	}
}

func TestCacheLimit(t *testing.T) {
	dir := t.TempDir()
	for i := range 4 {
		model := fmt.Sprint("m", i)
		fill(t, dir, model, 100, 1, 2)
		used := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, model), used, used); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Open(dir, "m0", 100, 2500) // a model has about 850 bytes: two may stay, and one record more
	if err != nil {
		t.Fatal(err)
	}
	row := make([]float32, 100)
	for i := range row {
		row[i] = 3 + float32(i)/8
	}
	for i, want := range []error{nil, ErrFull, ErrFull} {
		if err := c.Put(key(3+i), row); !errors.Is(err, want) {
			t.Errorf("Put %d = %v, want %v", i, err, want)
		}
	}
	if !c.Get(key(1), row) {
		t.Errorf("a full cache does not give what it has")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{3, 0, 0, 2} {
		if got := len(found(t, dir, fmt.Sprint("m", i), 100)); got != want {
			t.Errorf("model %d has %d embeddings, want %d", i, got, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "m"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "m", "x"+ending), content, 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := Open(dir, "m", 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n := (len(content) - header) / c.record(); c.Len() > max(0, n) {
			t.Fatalf("%d embeddings in %d bytes", c.Len(), len(content))
		}
		c.Close()
	})
}
