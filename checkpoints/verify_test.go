package checkpoints

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// TestEveryDamageIsFound flips single bits of every file of a checkpoint (a sample, and each bit that changes a
// letter's case in the manifest, which encoding/json overlooks), and cuts, lengthens and removes every file.
func TestEveryDamageIsFound(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	ctx := context.Background()
	for name, s := range map[string]*Snapshot{"full": fullSnapshot(5), "adapter": adapterSnapshot(5)} {
		series, root := newSeries(t)
		mustWrite(t, series, s)
		dir := filepath.Join(root, Name(5))
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		found := func(what string) {
			if _, damaged, err := series.Newest(ctx); !errors.Is(err, ErrNone) || len(damaged) != 1 {
				t.Errorf("%s: %s: Newest() = %v, %v, want %v and the fault", name, what, damaged, err, ErrNone)
			}
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var bits []int
			for range 100 {
				bits = append(bits, rng.IntN(8*len(content)))
			}
			for i, b := range content {
				if e.Name() == ManifestName && unicode.IsLetter(rune(b)) {
					bits = append(bits, 8*i+5)
				}
			}
			for _, bit := range bits {
				content[bit/8] ^= 1 << (bit % 8)
				write(t, path, content)
				found(e.Name() + " with a flipped bit")
				content[bit/8] ^= 1 << (bit % 8)
			}
			for range 20 {
				write(t, path, content[:rng.IntN(len(content))])
				found(e.Name() + " cut")
			}
			write(t, path, append(content[:len(content):len(content)], '\n'))
			found(e.Name() + " with a byte more")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			found(e.Name() + " removed")
			write(t, path, content)
		}
		if _, damaged, err := series.Newest(ctx); err != nil || len(damaged) > 0 {
			t.Errorf("%s: Newest() of the mended checkpoint = %v, %v", name, damaged, err)
		}
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFinds(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*Snapshot)
		want  string
	}{
		{"not a number", func(s *Snapshot) { s.Parameters[3] = float32(math.NaN()) }, "finite"},
		{"infinite moment", func(s *Snapshot) { s.First[3] = float32(math.Inf(-1)) }, "first.model.embed_tokens.weight"},
		{"negative moment", func(s *Snapshot) { s.Second[3] = -1 }, "second moment"},
		{"digest", func(s *Snapshot) { s.Parameters[0]++ }, "digest of the parameters"},
		{"width", func(s *Snapshot) {
			s.Files[ModelConfigName] = []byte(`{"hidden_size":8,"num_hidden_layers":2,"vocab_size":6}`)
		}, "embed_tokens"},
		{"vocabulary", func(s *Snapshot) {
			s.Files[ModelConfigName] = []byte(`{"hidden_size":4,"num_hidden_layers":2,"vocab_size":7}`)
		}, "embed_tokens"},
		{"layers", func(s *Snapshot) {
			s.Files[ModelConfigName] = []byte(`{"hidden_size":4,"num_hidden_layers":3,"vocab_size":6}`)
		}, "layer 2"},
		{"config", func(s *Snapshot) { s.Files[ModelConfigName] = []byte(`{`) }, "config.json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			series, dir := newSeries(t)
			s := fullSnapshot(2)
			tt.spoil(s)
			mustWrite(t, series, s)
			r := Verify(context.Background(), filepath.Join(dir, Name(2)), Hashers{Parameters: hashOf})
			if err := r.Err(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Verify() = %v, want an error with %q", err, tt.want)
			}
		})
	}
	t.Run("adapter rank", func(t *testing.T) {
		series, dir := newSeries(t)
		s := adapterSnapshot(2)
		s.Adapter.Rank = 3
		mustWrite(t, series, s)
		if err := Verify(context.Background(), filepath.Join(dir, Name(2)), Hashers{}).Err(); err == nil || !strings.Contains(err.Error(), "q_proj") {
			t.Errorf("Verify() = %v, want an error that names q_proj", err)
		}
	})
	t.Run("nothing there", func(t *testing.T) {
		if err := Verify(context.Background(), t.TempDir(), Hashers{}).Err(); err == nil || !strings.Contains(err.Error(), ManifestName) {
			t.Errorf("Verify() = %v, want an error that names %s", err, ManifestName)
		}
	})
	t.Run("a file too many", func(t *testing.T) {
		series, dir := newSeries(t)
		mustWrite(t, series, fullSnapshot(2))
		write(t, filepath.Join(dir, Name(2), "extra.bin"), []byte("x"))
		r := Verify(context.Background(), filepath.Join(dir, Name(2)), Hashers{Parameters: hashOf})
		if r.Err() != nil || !strings.Contains(strings.Join(r.Notes, "\n"), "extra.bin") {
			t.Errorf("Verify() = %v, notes %q, want a note about extra.bin", r.Err(), r.Notes)
		}
	})
}

func FuzzManifest(f *testing.F) {
	m := &Manifest{Format: manifestFormat, Step: 3, Files: map[string]Checksum{"a": {1, "b"}}}
	text, err := m.seal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			return
		}
		for name := range m.Files {
			if filepath.Base(name) != name {
				t.Fatalf("accepted the file name %q", name)
			}
		}
	})
}

func FuzzAdapter(f *testing.F) {
	text, err := (&Adapter{Base: "x", Rank: 2, Alpha: 4}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parseAdapter(text)
		if err != nil {
			return
		}
		again, err := a.encode()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := parseAdapter(again); err != nil || b.Rank != a.Rank || b.Alpha != a.Alpha {
			t.Fatalf("written %+v, read %+v, %v", a, b, err)
		}
	})
}
