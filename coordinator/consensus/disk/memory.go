package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// ErrPower is what every operation says on a disk whose power was cut after it was opened.
var ErrPower = errors.New("power lost")

// sector is what a disk writes whole, in bytes.
const sector = 512

// Memory is a disk in memory. Like a real one it holds two things: what reads see, and what was synced and so outlives
// a loss of power. The log above it is the real one (raft-wal), over this file system.
type Memory struct {
	mu        sync.Mutex
	life      int // of the power; handles of an earlier life are dead
	files     map[string]*file
	meta      types.PersistentState
	stable    map[string][]byte
	snapshots []*snapshot // the newest first
	sync      func() error
}

type file struct {
	seen   []byte  // what reads see
	synced []byte  // what outlives a loss of power
	entry  bool    // the folder's entry of it was synced
	dirty  []write // since the last sync
}

type write struct {
	at   int64
	data []byte
}

// NewMemory returns an empty disk.
func NewMemory() *Memory { return &Memory{files: map[string]*file{}, stable: map[string][]byte{}} }

// OnSync sets what every write that ends in a sync does first: it may wait, as a slow or stuck disk does, or fail. nil is
// nothing. It is called outside the log's locks, so that it may sleep in virtual time (testing/synctest).
func (m *Memory) OnSync(f func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sync = f
}

// Cut cuts the power: operations of whoever has the disk open fail from here on. Of the writes that were not synced each
// is kept, lost or torn at a sector, as random says. Open opens what is left.
func (m *Memory) Cut(random *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life++
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		f := m.files[name]
		if !f.entry && random.IntN(2) == 0 {
			delete(m.files, name)
			continue
		}
		f.entry = true
		for _, w := range f.dirty {
			switch random.IntN(3) {
			case 0:
				f.synced = put(f.synced, w.at, w.data)
			case 1: // torn: only the first sectors arrived
				n := sector * random.IntN(len(w.data)/sector+1)
				f.synced = put(f.synced, w.at, w.data[:n])
			}
		}
		f.dirty, f.seen = nil, bytes.Clone(f.synced)
	}
}

// Open implements Disk. It is the next life after Cut, or after a Close.
func (m *Memory) Open(log hclog.Logger) (*Stores, error) {
	m.mu.Lock()
	h := handle{m, m.life}
	m.mu.Unlock()
	w, err := raftwal.Open("memory", raftwal.WithLogger(log), raftwal.WithSegmentSize(64<<10),
		raftwal.WithMetaStore(metaStore{h}), raftwal.WithSegmentFiler(segment.NewFiler("memory", h)))
	if err != nil {
		return nil, fmt.Errorf("open log in memory: %w", err)
	}
	return &Stores{Log: slowLog{w, h}, Stable: slowStable{w, h}, Snapshots: snapshots{h}, Close: w.Close}, nil
}

// handle is a disk as one life sees it: a types.VFS.
type handle struct {
	m    *Memory
	life int
}

// do runs f with the disk locked, unless the power was cut.
func (h handle) do(f func(m *Memory) error) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if h.life != h.m.life {
		return ErrPower
	}
	return f(h.m)
}

// wait does what OnSync says.
func (h handle) wait() error {
	h.m.mu.Lock()
	f := h.m.sync
	h.m.mu.Unlock()
	if f == nil {
		return nil
	}
	return f()
}

// ListDir implements types.VFS.
func (h handle) ListDir(string) (names []string, err error) {
	err = h.do(func(m *Memory) error { names = slices.Sorted(maps.Keys(m.files)); return nil })
	return names, err
}

// Create implements types.VFS. The size is only a hint there; here it is the file's length, as preallocation makes it.
func (h handle) Create(_, name string, size uint64) (w types.WritableFile, err error) {
	err = h.do(func(m *Memory) error {
		if m.files[name] != nil {
			return fmt.Errorf("create %s: %w", name, os.ErrExist)
		}
		f := &file{seen: make([]byte, size), synced: make([]byte, size)}
		m.files[name] = f
		w = &opened{h, f}
		return nil
	})
	return w, err
}

// Delete implements types.VFS. raft-wal's syncs the folder before it returns.
func (h handle) Delete(_, name string) error {
	return h.do(func(m *Memory) error {
		if m.files[name] == nil {
			return fmt.Errorf("delete %s: %w", name, os.ErrNotExist)
		}
		delete(m.files, name)
		return nil
	})
}

// OpenReader implements types.VFS.
func (h handle) OpenReader(dir, name string) (types.ReadableFile, error) {
	return h.OpenWriter(dir, name)
}

// OpenWriter implements types.VFS.
func (h handle) OpenWriter(_, name string) (w types.WritableFile, err error) {
	err = h.do(func(m *Memory) error {
		f := m.files[name]
		if f == nil {
			return fmt.Errorf("open %s: %w", name, os.ErrNotExist)
		}
		w = &opened{h, f}
		return nil
	})
	return w, err
}

// opened is an open file.
type opened struct {
	h handle
	f *file
}

// WriteAt implements types.WritableFile.
func (o *opened) WriteAt(p []byte, at int64) (int, error) {
	return len(p), o.h.do(func(*Memory) error {
		w := write{at, bytes.Clone(p)}
		o.f.dirty = append(o.f.dirty, w)
		o.f.seen = put(o.f.seen, at, w.data)
		return nil
	})
}

// ReadAt implements types.ReadableFile.
func (o *opened) ReadAt(p []byte, at int64) (n int, err error) {
	err = o.h.do(func(*Memory) error {
		if at < int64(len(o.f.seen)) {
			n = copy(p, o.f.seen[at:])
		}
		if n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

// Sync implements types.WritableFile: the first sync of a new file syncs the folder too, as raft-wal's does.
func (o *opened) Sync() error {
	return o.h.do(func(*Memory) error {
		for _, w := range o.f.dirty {
			o.f.synced = put(o.f.synced, w.at, w.data)
		}
		o.f.dirty, o.f.entry = nil, true
		return nil
	})
}

// Close implements types.WritableFile. It syncs nothing.
func (o *opened) Close() error { return nil }

// put writes data at an offset of b, which grows as needed.
func put(b []byte, at int64, data []byte) []byte {
	if n := int(at) + len(data) - len(b); n > 0 && len(data) > 0 {
		b = append(b, make([]byte, n)...)
	}
	if len(data) > 0 {
		copy(b[at:], data)
	}
	return b
}
