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

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus/disk"
)

// Past is what a folder holds of a log, for those who only look: the folder may be in use, and nothing in it is changed.
type Past struct {
	First, Last uint64     // indices of the log's entries, those that are not the machine's included; 0, 0 = none
	Snapshots   []Snapshot // newest first, as far as they can be read
	Damaged     []string   // snapshots that cannot, and why

	log   raft.LogStore
	close func() error
	copy  string
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
	var err error
	for range 5 { // a segment may end or go between two reads
		p := &Past{}
		if err = p.open(dir); err == nil {
			return p, nil
		}
		err = errors.Join(err, p.Close())
		if errors.Is(err, errNoLog) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, fmt.Errorf("read the log in %s: %w", dir, err)
}

var errNoLog = errors.New("the folder holds no log of a coordinator")

func (p *Past) open(dir string) (err error) {
	if p.copy, err = os.MkdirTemp("", "counterpoint-log-"); err != nil {
		return err
	}
	store, err := copyStore(p.copy, dir)
	if err != nil {
		return err
	}
	stores, err := disk.Folder{Dir: p.copy, Store: store}.Open(newLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	p.log, p.close = stores.Log, stores.Close
	if p.First, err = p.log.FirstIndex(); err != nil {
		return err
	}
	if p.Last, err = p.log.LastIndex(); err != nil {
		return err
	}
	return p.snapshots(stores.Snapshots)
}

// snapshots reads those that can be read; of a damaged one it says why.
func (p *Past) snapshots(store raft.SnapshotStore) error {
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
	names, err := os.ReadDir(filepath.Join(p.copy, "snapshots"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, n := range names {
		if n.IsDir() && filepath.Ext(n.Name()) != ".tmp" && !listed[n.Name()] && len(metas) < disk.Keep {
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
			if err := p.log.GetLog(i, &l); err != nil {
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
	if p.close != nil {
		errs = append(errs, p.close())
	}
	if p.copy != "" {
		errs = append(errs, os.RemoveAll(p.copy))
	}
	return errors.Join(errs...)
}

// copyStore copies a folder's log and snapshots, and says of which kind the log is.
func copyStore(to, from string) (store string, err error) {
	store = disk.WAL
	if _, err := os.Stat(filepath.Join(from, "log.bolt")); err == nil {
		store = disk.Bolt
		if err := copyFile(filepath.Join(to, "log.bolt"), filepath.Join(from, "log.bolt")); err != nil {
			return store, err
		}
	} else if _, err := os.Stat(filepath.Join(from, "log")); err != nil {
		return store, errNoLog
	} else if err := copyFolder(filepath.Join(to, "log"), filepath.Join(from, "log")); err != nil {
		return store, err
	}
	names, err := os.ReadDir(filepath.Join(from, "snapshots"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return store, err
	}
	for _, n := range names {
		if !n.IsDir() || filepath.Ext(n.Name()) == ".tmp" {
			continue
		}
		if err := copyFolder(filepath.Join(to, "snapshots", n.Name()), filepath.Join(from, "snapshots", n.Name())); err != nil {
			return store, err
		}
	}
	return store, nil
}

// copyFolder copies the files of a folder: what says which segments there are first, so that those are there later, or
// gone, which is an error and tried again.
func copyFolder(to, from string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	names, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	database := func(e os.DirEntry) bool { return filepath.Ext(e.Name()) == ".db" }
	slices.SortStableFunc(names, func(a, b os.DirEntry) int {
		switch {
		case database(a) == database(b):
			return 0
		case database(a):
			return -1
		}
		return 1
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
