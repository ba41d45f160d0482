package consensus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// contents reads all of a past.
func contents(t *testing.T, dir string) (entries []string, p *Past) {
	t.Helper()
	p, err := OpenPast(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	for e, err := range p.Entries(0) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, string(e.Content))
	}
	return entries, p
}

// What a folder holds is read while its node works, and nothing in it changes.
func TestPastOfAFolderInUse(t *testing.T) {
	dir := t.TempDir()
	n := openOf(t, dir, &journal{})
	lead(t, n)
	var want []string
	propose := func(from, to int) {
		for i := from; i < to; i++ {
			entry := fmt.Sprint("entry ", i)
			if err := n.Propose([]byte(entry)); err != nil {
				t.Fatal(err)
			}
			want = append(want, entry)
		}
	}
	propose(0, 20)
	got, p := contents(t, dir)
	if fmt.Sprint(got) != fmt.Sprint(want) || p.First != 1 || len(p.Snapshots)+len(p.Damaged) > 0 {
		t.Errorf("entries %q from %d on, snapshots %v %v; want %q", got, p.First, p.Snapshots, p.Damaged, want)
	}
	if err := n.Snapshot(); err != nil {
		t.Fatal(err)
	}
	at := len(want)
	propose(20, 30)
	got, p = contents(t, dir)
	if fmt.Sprint(got) != fmt.Sprint(want) || len(p.Snapshots) != 1 || string(p.Snapshots[0].Content) == "" {
		t.Errorf("entries %q, snapshots %v; want %q and one snapshot", got, p.Snapshots, want)
	}
	s := p.Snapshots[0]
	if !bytes.HasSuffix(s.Content, []byte(want[at-1])) {
		t.Errorf("the snapshot of entry %d ends with %q, want %q", s.Index, s.Content[max(0, len(s.Content)-20):], want[at-1])
	}
	for e, err := range p.Entries(s.Index + 1) {
		if err != nil || string(e.Content) != want[at] {
			t.Errorf("after the snapshot comes %q, %v, want %q", e.Content, err, want[at])
		}
		break
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPast(t.TempDir()); err == nil || !strings.Contains(err.Error(), "holds no log") {
		t.Errorf("OpenPast of an empty folder = %v", err)
	}
}

// A flipped bit of a snapshot is named, or is one that says nothing about its content.
func TestPastNamesADamagedSnapshot(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	n := openOf(t, dir, &journal{})
	lead(t, n)
	for i := range 20 {
		if err := n.Propose(fmt.Append(nil, "entry ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	_, p := contents(t, dir)
	want := string(p.Snapshots[0].Content)
	named := map[string]int{}
	for _, name := range []string{"state.bin", "meta.json"} {
		files, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", name))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			bit := r.IntN(8 * len(text))
			damaged := bytes.Clone(text)
			damaged[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(files[0], damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			p, err := OpenPast(dir)
			if err != nil {
				t.Fatalf("seed %d: bit %d of %s: %v", seed, bit, name, err)
			}
			switch {
			case len(p.Damaged) > 0:
				named[name]++
			case len(p.Snapshots) == 1 && string(p.Snapshots[0].Content) == want:
			default:
				t.Errorf("seed %d: bit %d of %s is flipped, and the snapshot is read as %v", seed, bit, name, p.Snapshots)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(files[0], text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d: of 20 flips each were named: %v", seed, named)
	if named["state.bin"] != 20 {
		t.Errorf("%d of 20 flips of the state were named", named["state.bin"])
	}
}
