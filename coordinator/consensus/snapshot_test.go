package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A newest snapshot that is torn, or whose bytes changed, falls back to the one before, and the log closes the gap; where
// it cannot, the node says so and does not start.
func TestTornSnapshot(t *testing.T) {
	damage := map[string]func(t *testing.T, snapshot string){
		"torn": func(t *testing.T, snapshot string) {
			if err := os.Truncate(filepath.Join(snapshot, "state.bin"), 5); err != nil {
				t.Fatal(err)
			}
		},
		"bit": func(t *testing.T, snapshot string) {
			name := filepath.Join(snapshot, "state.bin")
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 4
			if err := os.WriteFile(name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"no description": func(t *testing.T, snapshot string) {
			if err := os.Remove(filepath.Join(snapshot, "meta.json")); err != nil {
				t.Fatal(err)
			}
		},
		"unfinished": func(t *testing.T, snapshot string) { // power was lost while it was written
			if err := os.Rename(snapshot, snapshot+".tmp"); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, spoil := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			n := openOf(t, dir, &journal{})
			lead(t, n)
			var want []string
			for life := range 3 {
				for i := range 4 {
					want = append(want, fmt.Sprintf("%d.%d", life, i))
					if err := n.Propose([]byte(want[len(want)-1])); err != nil {
						t.Fatal(err)
					}
				}
				if life < 2 {
					if err := n.Snapshot(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			list, err := os.ReadDir(filepath.Join(dir, "snapshots"))
			if err != nil || len(list) != 2 {
				t.Fatalf("%d snapshots, %v; want 2", len(list), err)
			}
			slices.SortFunc(list, func(a, b os.DirEntry) int { return strings.Compare(lastPart(a.Name()), lastPart(b.Name())) })
			spoil(t, filepath.Join(dir, "snapshots", list[1].Name()))
			j := &journal{}
			n = openOf(t, dir, j)
			defer n.Close()
			lead(t, n)
			if got := j.all(); !slices.Equal(got, want) {
				t.Errorf("after the newest snapshot was spoiled (%s): %v, want %v", name, got, want)
			}
		})
	}
}

// lastPart is the time in a snapshot's name.
func lastPart(name string) string { return name[strings.LastIndex(name, "-")+1:] }

// All snapshots spoiled: the node does not start, and names them.
func TestNoSnapshotLeft(t *testing.T) {
	dir := t.TempDir()
	n := openOf(t, dir, &journal{})
	lead(t, n)
	if err := errors.Join(n.Propose([]byte("one")), n.Snapshot(), n.Close()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.Truncate(files[0], 1); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Options{Dir: dir, Name: "a", FailureTimeout: n.timers.Failure}, &journal{})
	if err == nil || !strings.Contains(err.Error(), "no snapshot can be read: snapshot "+filepath.Base(filepath.Dir(files[0]))) {
		t.Errorf("Open = %v, want an error that names the snapshot", err)
	}
}
