// Package storetest is what every store of checkpoints must pass.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// Lab is a store under test, new and empty.
type Lab struct {
	Store checkpoints.Store
	Other checkpoints.Store // the same place, as another machine has it
	// Change changes a file of a checkpoint where it lies, behind the store's back; nil content removes it.
	Change func(t *testing.T, name, file string, change func(content []byte) []byte)
}

// Snapshot returns a small state, the same for the same arguments.
func Snapshot(step int64, values int) *checkpoints.Snapshot {
	rng := rand.New(rand.NewPCG(uint64(step), uint64(values)))
	numbers := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = rng.Float32()
		}
		return out
	}
	s := &checkpoints.Snapshot{
		Step: step, Attempt: 1, Maxima: numbers(1),
		Tensors:    []checkpoints.Tensor{{Name: "model.embed_tokens.weight", Shape: []int{values / 4, 4}}},
		Parameters: numbers(values / 4 * 4), First: numbers(values / 4 * 4), Second: numbers(values / 4 * 4),
		Files: map[string][]byte{checkpoints.ModelConfigName: []byte(`{"hidden_size":4,"vocab_size":4}`), "tokenizer.json": []byte(`{"model":{}}`)},
	}
	s.Origin = checkpoints.Origin{Run: "conformance", Seed: 42, Identity: "1d", Data: "da7a", ParameterDigest: fmt.Sprint("p", step), Version: "v0", Spec: json.RawMessage(`{}`)}
	return s
}

// Run tests a store; open returns a new one for each part.
func Run(t *testing.T, open func(t *testing.T) Lab) {
	for name, part := range map[string]func(*testing.T, Lab){
		"empty": empty, "put": put, "names": names, "interrupted": interrupted, "replace": replace, "concurrent": concurrent,
		"taken over": takenOver, "damage": damage, "retention": retention,
	} {
		t.Run(name, func(t *testing.T) { part(t, open(t)) })
	}
}

func write(t *testing.T, store checkpoints.Store, s *checkpoints.Snapshot) *checkpoints.Manifest {
	t.Helper()
	m, err := (&checkpoints.Series{Store: store}).Write(t.Context(), s)
	if err != nil {
		t.Fatalf("Write(step %d): %v", s.Step, err)
	}
	return m
}

// listed returns the names of a store, sorted.
func listed(t *testing.T, store checkpoints.Store) []string {
	t.Helper()
	all, err := store.List(t.Context())
	if err != nil {
		t.Fatalf("List(): %v", err)
	}
	slices.Sort(all)
	return all
}

func sound(t *testing.T, store checkpoints.Store, name, digest string) {
	t.Helper()
	for _, deep := range []bool{false, true} {
		if m, err := store.Inspect(t.Context(), name, deep); err != nil || m.Digest() != digest {
			t.Errorf("Inspect(%q, %t) = %v, %v, want the manifest written", name, deep, m, err)
		}
	}
}

func empty(t *testing.T, lab Lab) {
	if all := listed(t, lab.Store); len(all) != 0 {
		t.Errorf("List() = %v, want none", all)
	}
	if _, err := lab.Store.Inspect(t.Context(), checkpoints.Name(1), false); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, checkpoints.ErrUnreachable) {
		t.Errorf("Inspect() of nothing = %v, want one that is fs.ErrNotExist", err)
	}
	if dir, err := lab.Store.Fetch(t.Context(), checkpoints.Name(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Fetch() of nothing = %q, %v, want one that is fs.ErrNotExist", dir, err)
	}
	if err := lab.Store.Remove(t.Context(), checkpoints.Name(1)); err != nil {
		t.Errorf("Remove() of nothing = %v, want none", err)
	}
	if _, _, err := (&checkpoints.Series{Store: lab.Store}).Newest(t.Context()); !errors.Is(err, checkpoints.ErrNone) {
		t.Errorf("Newest() of nothing = %v, want ErrNone", err)
	}
}

func put(t *testing.T, lab Lab) {
	s := Snapshot(7, 64)
	m := write(t, lab.Store, s)
	name := checkpoints.Name(7)
	for _, store := range []checkpoints.Store{lab.Store, lab.Other} {
		if all := listed(t, store); !slices.Equal(all, []string{name}) {
			t.Errorf("List() = %v, want [%s]", all, name)
		}
		sound(t, store, name, m.Digest())
		dir, err := store.Fetch(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := checkpoints.Load(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Errorf("Load(Fetch()) = %+v, want %+v", got, s)
		}
		if e, damaged, err := (&checkpoints.Series{Store: store}).Newest(t.Context()); err != nil || e.Step != 7 || e.Dir != dir || len(damaged) > 0 {
			t.Errorf("Newest() = %+v, %v, %v, want step 7 in %s", e, damaged, err, dir)
		}
	}
	if a, b := lab.Store.Path(name), lab.Other.Path(name); a != b || !strings.Contains(a, name) {
		t.Errorf("Path() = %q here and %q there, want one with %s", a, b, name)
	}
	if again := write(t, lab.Other, s); again.Digest() != m.Digest() {
		t.Errorf("written again: %s, want %s", again.Digest(), m.Digest())
	}
}

func names(t *testing.T, lab Lab) {
	file := []checkpoints.File{{Name: "a", Write: func(w io.Writer) error { _, err := w.Write([]byte("a")); return err }}}
	for _, name := range []string{"", ".", "..", ".hidden", "a/b", "../a", `a\b`, "a\x00b", "/a"} {
		if err := lab.Store.Put(t.Context(), name, file); err == nil {
			t.Errorf("Put(%q) = nil, want an error", name)
		}
		if _, err := lab.Store.Fetch(t.Context(), name); err == nil {
			t.Errorf("Fetch(%q) = nil, want an error", name)
		}
		if _, err := lab.Store.Inspect(t.Context(), name, false); err == nil {
			t.Errorf("Inspect(%q) = nil, want an error", name)
		}
		if err := lab.Store.Remove(t.Context(), name); err == nil {
			t.Errorf("Remove(%q) = nil, want an error", name)
		}
	}
}

// filesOf returns the files of a snapshot as a store gets them, the manifest last, and its digest.
func filesOf(t *testing.T, s *checkpoints.Snapshot) (files []checkpoints.File, digest string) {
	t.Helper()
	local := checkpoints.NewLocal(t.TempDir())
	m := write(t, local, s)
	for _, file := range append(slices.Sorted(maps.Keys(m.Files)), checkpoints.ManifestName) {
		content, err := os.ReadFile(filepath.Join(local.Path(checkpoints.Name(s.Step)), file))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, checkpoints.File{Name: file, Write: func(w io.Writer) error { _, err := w.Write(content); return err }})
	}
	return files, m.Digest()
}

// interrupted writes fail, or are given up, at each file: nothing is seen of them, and what was there stays whole.
func interrupted(t *testing.T, lab Lab) {
	broken := errors.New("the writer broke")
	old, oldDigest := filesOf(t, Snapshot(3, 64))
	next, _ := filesOf(t, Snapshot(4, 64))
	if err := lab.Store.Put(t.Context(), checkpoints.Name(3), old); err != nil {
		t.Fatal(err)
	}
	for i := range next {
		for _, how := range []string{"fails", "is given up"} {
			ctx, cancel := context.WithCancel(t.Context())
			files := slices.Clone(next)
			files[i].Write = func(w io.Writer) error {
				if how == "fails" {
					return broken
				}
				cancel()
				return next[i].Write(w)
			}
			for _, name := range []string{checkpoints.Name(3), checkpoints.Name(4)} {
				err := lab.Store.Put(ctx, name, files)
				if err == nil || how == "fails" && !errors.Is(err, broken) {
					t.Errorf("Put() whose file %d %s = %v, want its error", i, how, err)
				}
			}
			cancel()
			if all := listed(t, lab.Store); !slices.Equal(all, []string{checkpoints.Name(3)}) {
				t.Errorf("List() after a Put() whose file %d %s = %v, want step 3 alone", i, how, all)
			}
			if _, err := lab.Store.Inspect(t.Context(), checkpoints.Name(4), false); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Inspect() after a Put() whose file %d %s = %v, want fs.ErrNotExist", i, how, err)
			}
		}
	}
	sound(t, lab.Other, checkpoints.Name(3), oldDigest)
}

// replace puts another state under the same name, as another life of the run does.
func replace(t *testing.T, lab Lab) {
	write(t, lab.Store, Snapshot(5, 128))
	if _, err := lab.Other.Fetch(t.Context(), checkpoints.Name(5)); err != nil {
		t.Fatal(err)
	}
	s := Snapshot(5, 64)
	s.Files["extra.json"] = []byte("{}")
	write(t, lab.Store, s)
	delete(s.Files, "extra.json")
	m := write(t, lab.Store, s)
	sound(t, lab.Store, checkpoints.Name(5), m.Digest())
	for _, store := range []checkpoints.Store{lab.Store, lab.Other} {
		dir, err := store.Fetch(t.Context(), checkpoints.Name(5))
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(m.Files)+1 {
			t.Errorf("Fetch() has %d files, %v, want %d", len(entries), err, len(m.Files)+1)
		}
		if got, err := checkpoints.Load(t.Context(), dir); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("Load(Fetch()) = %+v, %v, want %+v", got, err, s)
		}
	}
}

// concurrent writers of one checkpoint all succeed, and a reader sees all of it or nothing.
func concurrent(t *testing.T, lab Lab) {
	s := Snapshot(9, 4096)
	name := checkpoints.Name(9)
	var writers, reader sync.WaitGroup
	stop := make(chan struct{})
	reader.Go(func() {
		for {
			if _, err := lab.Other.Inspect(t.Context(), name, true); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Inspect() during the writing: %v", err)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	digests := make([]string, 4)
	for i := range digests {
		writers.Go(func() {
			store := []checkpoints.Store{lab.Store, lab.Other}[i%2]
			m, err := (&checkpoints.Series{Store: store}).Write(t.Context(), s)
			if err != nil {
				t.Errorf("writer %d: %v", i, err)
				return
			}
			digests[i] = m.Digest()
		})
	}
	writers.Wait()
	close(stop)
	reader.Wait()
	if t.Failed() {
		return
	}
	for _, d := range digests {
		sound(t, lab.Store, name, d)
	}
}

// takenOver: a writer stops at each file in turn and never returns, another writes the same.
func takenOver(t *testing.T, lab Lab) {
	for step := range int64(3) {
		files, digest := filesOf(t, Snapshot(step, 64))
		for i := range files {
			ctx, cancel := context.WithCancel(t.Context())
			cut := slices.Clone(files)
			cut[i].Write = func(w io.Writer) error { cancel(); return files[i].Write(w) }
			if err := lab.Store.Put(ctx, checkpoints.Name(step), cut); err == nil {
				t.Errorf("Put() given up at file %d = nil, want an error", i)
			}
			cancel()
		}
		if err := lab.Other.Put(t.Context(), checkpoints.Name(step), files); err != nil {
			t.Fatalf("step %d: the second writer: %v", step, err)
		}
		sound(t, lab.Store, checkpoints.Name(step), digest)
	}
}

// damage of any file is found, named, and does not reach whoever reads; writing the step again repairs it.
func damage(t *testing.T, lab Lab) {
	name := checkpoints.Name(2)
	first := write(t, lab.Store, Snapshot(1, 64))
	s := Snapshot(2, 64)
	m := write(t, lab.Store, s)
	kinds := map[string]func([]byte) []byte{
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"cut":     func(b []byte) []byte { return b[:len(b)-1] },
		"gone":    func([]byte) []byte { return nil },
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		for _, file := range append(slices.Sorted(maps.Keys(m.Files)), checkpoints.ManifestName) {
			lab.Change(t, name, file, kinds[kind])
			_, err := lab.Store.Inspect(t.Context(), name, true)
			if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), name) {
				t.Errorf("Inspect() with %s %s = %v, want an error that names both", file, kind, err)
			}
			if errors.Is(err, checkpoints.ErrUnreachable) {
				t.Errorf("Inspect() with %s %s = %v, which is no lack of an answer", file, kind, err)
			}
			fresh := lab.Other
			if e, damaged, err := (&checkpoints.Series{Store: fresh}).Newest(t.Context()); err != nil || e.Step != 1 || e.Manifest.Digest() != first.Digest() {
				t.Errorf("Newest() with %s of step 2 %s = step %d, %v, %v, want step 1", file, kind, e.Step, damaged, err)
			}
			again, err := (&checkpoints.Series{Store: lab.Store}).Write(t.Context(), s)
			if err != nil || again.Digest() != m.Digest() {
				t.Errorf("Write() over a checkpoint with %s %s: %v", file, kind, err)
			}
			sound(t, fresh, name, m.Digest())
			if err := fresh.Remove(t.Context(), name); err != nil { // so that what it fetched is gone too
				t.Fatal(err)
			}
			write(t, lab.Store, s)
		}
	}
}

func retention(t *testing.T, lab Lab) {
	for step := range int64(5) {
		write(t, lab.Store, Snapshot(step, 64))
	}
	for step := range int64(3) {
		for range 2 {
			if err := lab.Other.Remove(t.Context(), checkpoints.Name(step)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := lab.Store.Fetch(t.Context(), checkpoints.Name(step)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Fetch() of a removed checkpoint = %v, want fs.ErrNotExist", err)
		}
	}
	if all := listed(t, lab.Store); !slices.Equal(all, []string{checkpoints.Name(3), checkpoints.Name(4)}) {
		t.Errorf("List() = %v, want steps 3 and 4", all)
	}
}

// ChangeFile is Lab.Change for stores whose files lie on a disk.
func ChangeFile(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content = change(content)
	if content == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, content, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
