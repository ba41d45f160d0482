package consensus

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
)

// Past is what a folder holds of a log, for those who only look: the folder may be in use, and nothing in it is changed.
type Past struct {
	First, Last uint64     // indices of the log's entries, those that are not the machine's included; 0, 0 = none
	Snapshots   []Snapshot // newest first, as far as they can be read
	Damaged     []string   // snapshots that cannot, and why

	wal  *raftwal.WAL
	copy string
}

// Snapshot is what a machine was after the entry of that index.
type Snapshot struct {
	ID          string
	Index, Term uint64
	Content     []byte
}

// OpenPast reads a node's folder (Options.Dir). A log in use is copied while it grows: what is copied ends with some entry,
// and the newest entries of a group may not be committed yet.
func OpenPast(dir string) (*Past, error) {
	from := filepath.Join(dir, "log")
	if _, err := os.Stat(from); err != nil {
		return nil, fmt.Errorf("%s holds no log of a coordinator: %w", dir, err)
	}
	var err error
	for range 5 { // a segment may end or go between two reads
		p := &Past{}
		if err = p.open(dir, from); err == nil {
			return p, nil
		}
		err = errors.Join(err, p.Close())
		time.Sleep(50 * time.Millisecond)
	}
	return nil, fmt.Errorf("read the log in %s: %w", from, err)
}

func (p *Past) open(dir, from string) (err error) {
	if p.copy, err = os.MkdirTemp("", "counterpoint-log-"); err != nil {
		return err
	}
	if err := copyLog(p.copy, from); err != nil {
		return err
	}
	quiet := newLogger(slog.New(slog.DiscardHandler))
	if p.wal, err = raftwal.Open(p.copy, raftwal.WithLogger(quiet)); err != nil {
		return err
	}
	if p.First, err = p.wal.FirstIndex(); err != nil {
		return err
	}
	if p.Last, err = p.wal.LastIndex(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "snapshots")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return p.snapshots(dir)
}

// snapshots reads those of a copy: the store itself would make its folder and tidy it.
func (p *Past) snapshots(dir string) error {
	copied := filepath.Join(p.copy, "copy")
	names, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil {
		return err
	}
	for _, n := range names {
		if !n.IsDir() || filepath.Ext(n.Name()) == ".tmp" {
			continue
		}
		to := filepath.Join(copied, "snapshots", n.Name())
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		for _, name := range []string{"meta.json", "state.bin"} {
			if err := copyFile(filepath.Join(to, name), filepath.Join(dir, "snapshots", n.Name(), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := os.MkdirAll(copied, 0o755); err != nil {
		return err
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(copied, 1<<20, newLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	metas, err := store.List()
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, m := range metas {
		listed[m.ID] = true
		_, r, err := store.Open(m.ID) // compares the checksum
		if err != nil {
			p.Damaged = append(p.Damaged, fmt.Sprintf("snapshot %s: %v", m.ID, err))
			continue
		}
		b, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			p.Damaged = append(p.Damaged, fmt.Sprintf("snapshot %s: %v", m.ID, err))
			continue
		}
		p.Snapshots = append(p.Snapshots, Snapshot{ID: m.ID, Index: m.Index, Term: m.Term, Content: b})
	}
	for _, n := range names {
		if n.IsDir() && filepath.Ext(n.Name()) != ".tmp" && !listed[n.Name()] {
			p.Damaged = append(p.Damaged, fmt.Sprintf("snapshot %s: its meta.json cannot be read", n.Name()))
		}
	}
	return nil
}

// Entry is one entry that a machine was given.
type Entry struct {
	Index, Term uint64
	Content     []byte
}

// Entries yields the machine's entries from index on, in order. An error ends it.
func (p *Past) Entries(from uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for i := max(from, p.First, 1); i <= p.Last; i++ {
			var l raft.Log
			if err := p.wal.GetLog(i, &l); err != nil {
				yield(Entry{Index: i}, fmt.Errorf("read entry %d of the log: %w", i, err))
				return
			}
			if l.Type == raft.LogCommand && !yield(Entry{l.Index, l.Term, l.Data}, nil) {
				return
			}
		}
	}
}

// Close removes the copy.
func (p *Past) Close() error {
	var errs []error
	if p.wal != nil {
		errs = append(errs, p.wal.Close())
	}
	if p.copy != "" {
		errs = append(errs, os.RemoveAll(p.copy))
	}
	return errors.Join(errs...)
}

// copyLog copies a log folder: what says which segments there are first, so that those are there later, or gone, which is
// an error and tried again.
func copyLog(to, from string) error {
	names, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	slices.SortStableFunc(names, func(a, b os.DirEntry) int {
		if a, b := filepath.Ext(a.Name()) == ".db", filepath.Ext(b.Name()) == ".db"; a != b {
			if a {
				return -1
			}
			return 1
		}
		return 0
	})
	for _, n := range names {
		if n.Type().IsRegular() {
			if err := copyFile(filepath.Join(to, n.Name()), filepath.Join(from, n.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
