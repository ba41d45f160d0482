// Package disk is where a member of a group keeps its log, its votes and its snapshots: in a folder, or in a memory
// that loses what was not synced, so that tests can cut the power.
package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	boltdb "github.com/hashicorp/raft-boltdb/v2"
	raftwal "github.com/hashicorp/raft-wal"
)

// Stores are an opened disk.
type Stores struct {
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	Close     func() error // of Log and Stable
}

// Disk can be opened once at a time.
type Disk interface {
	Open(log hclog.Logger) (*Stores, error)
}

// Keep is how many snapshots stay: a newest one that cannot be read falls back to the one before.
const Keep = 2

// segmentSize is the size of a file of the log, in bytes. A segment is allocated whole: 8 MiB holds about 20,000 steps.
const segmentSize = 8 << 20

// Names of the stores of a folder.
const (
	WAL  = "wal"
	Bolt = "bolt"
)

// Folder is a disk in a folder of the file system. Store is WAL ("" too), which syncs once an append, or Bolt, which
// syncs twice. A folder stays with the store that began it.
type Folder struct {
	Dir   string
	Store string
}

// Open implements Disk.
func (f Folder) Open(log hclog.Logger) (_ *Stores, err error) {
	dir, bolt := filepath.Join(f.Dir, "log"), filepath.Join(f.Dir, "log.bolt")
	s := &Stores{}
	switch f.Store {
	case "", WAL:
		if _, err := os.Stat(bolt); err == nil {
			return nil, fmt.Errorf("open log: %s was begun with store %q, not %q", f.Dir, Bolt, WAL)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		w, err := raftwal.Open(dir, raftwal.WithLogger(log), raftwal.WithSegmentSize(segmentSize))
		if err != nil {
			return nil, fmt.Errorf("open log in %s: %w", dir, err)
		}
		s.Log, s.Stable, s.Close = w, w, w.Close
	case Bolt:
		if _, err := os.Stat(dir); err == nil {
			return nil, fmt.Errorf("open log: %s was begun with store %q, not %q", f.Dir, WAL, Bolt)
		}
		b, err := boltdb.NewBoltStore(bolt)
		if err != nil {
			return nil, fmt.Errorf("open log %s: %w", bolt, err)
		}
		s.Log, s.Stable, s.Close = b, b, b.Close
	default:
		return nil, fmt.Errorf("store %q: %q and %q are allowed", f.Store, WAL, Bolt)
	}
	if s.Snapshots, err = raft.NewFileSnapshotStoreWithLogger(f.Dir, Keep, log); err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshots: %w", err), s.Close())
	}
	return s, nil
}
