package disk

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"
)

// slowLog is a log whose writes wait for the disk.
type slowLog struct {
	*raftwal.WAL
	h handle
}

// StoreLog implements raft.LogStore.
func (l slowLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore.
func (l slowLog) StoreLogs(entries []*raft.Log) error {
	if err := l.h.wait(); err != nil {
		return err
	}
	return l.WAL.StoreLogs(entries)
}

// slowStable is a stable store whose writes wait for the disk.
type slowStable struct {
	raft.StableStore
	h handle
}

// Set implements raft.StableStore.
func (s slowStable) Set(key, value []byte) error {
	if err := s.h.wait(); err != nil {
		return err
	}
	return s.StableStore.Set(key, value)
}

// SetUint64 implements raft.StableStore.
func (s slowStable) SetUint64(key []byte, value uint64) error {
	if err := s.h.wait(); err != nil {
		return err
	}
	return s.StableStore.SetUint64(key, value)
}

// metaStore keeps the list of segments and the votes. Like the real one (bbolt) each change is one transaction that is
// durable when the call returns.
type metaStore struct{ h handle }

// Load implements types.MetaStore.
func (s metaStore) Load(string) (state types.PersistentState, err error) {
	err = s.h.do(func(m *Memory) error { state = copied(m.meta); return nil })
	return state, err
}

// CommitState implements types.MetaStore.
func (s metaStore) CommitState(state types.PersistentState) error {
	return s.h.do(func(m *Memory) error { m.meta = copied(state); return nil })
}

func copied(s types.PersistentState) types.PersistentState {
	s.Segments = slices.Clone(s.Segments)
	return s
}

// GetStable implements types.MetaStore.
func (s metaStore) GetStable(key []byte) (value []byte, err error) {
	err = s.h.do(func(m *Memory) error { value = bytes.Clone(m.stable[string(key)]); return nil })
	return value, err
}

// SetStable implements types.MetaStore.
func (s metaStore) SetStable(key, value []byte) error {
	return s.h.do(func(m *Memory) error {
		if value == nil {
			delete(m.stable, string(key))
		} else {
			m.stable[string(key)] = bytes.Clone(value)
		}
		return nil
	})
}

// Close implements io.Closer.
func (s metaStore) Close() error { return nil }

// snapshots keeps snapshots that appear whole when they are closed, as raft.FileSnapshotStore's do: it syncs the files,
// renames the folder and syncs its parent.
type snapshots struct{ h handle }

type snapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

// Create implements raft.SnapshotStore.
func (s snapshots) Create(version raft.SnapshotVersion, index, term uint64, group raft.Configuration, groupIndex uint64, _ raft.Transport) (sink raft.SnapshotSink, err error) {
	err = s.h.do(func(m *Memory) error {
		sink = &memorySink{h: s.h, meta: raft.SnapshotMeta{
			Version: version, ID: fmt.Sprintf("%d-%d-%d", term, index, len(m.snapshots)), Index: index, Term: term,
			Configuration: group.Clone(), ConfigurationIndex: groupIndex,
		}}
		return nil
	})
	return sink, err
}

// List implements raft.SnapshotStore.
func (s snapshots) List() (out []*raft.SnapshotMeta, err error) {
	err = s.h.do(func(m *Memory) error {
		for _, one := range m.snapshots {
			meta := one.meta
			out = append(out, &meta)
		}
		return nil
	})
	return out, err
}

// Open implements raft.SnapshotStore.
func (s snapshots) Open(id string) (meta *raft.SnapshotMeta, r io.ReadCloser, err error) {
	err = s.h.do(func(m *Memory) error {
		for _, one := range m.snapshots {
			if one.meta.ID == id {
				found := one.meta
				meta, r = &found, io.NopCloser(bytes.NewReader(one.data))
				return nil
			}
		}
		return fmt.Errorf("snapshot %s is not there", id)
	})
	return meta, r, err
}

type memorySink struct {
	h    handle
	meta raft.SnapshotMeta
	buf  bytes.Buffer
	done bool
}

// ID implements raft.SnapshotSink.
func (s *memorySink) ID() string { return s.meta.ID }

// Write implements io.Writer.
func (s *memorySink) Write(p []byte) (int, error) { return s.buf.Write(p) }

// Cancel implements raft.SnapshotSink.
func (s *memorySink) Cancel() error { s.done = true; return nil }

// Close implements io.Closer.
func (s *memorySink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	if err := s.h.wait(); err != nil {
		return err
	}
	return s.h.do(func(m *Memory) error {
		s.meta.Size = int64(s.buf.Len())
		m.snapshots = append([]*snapshot{{s.meta, s.buf.Bytes()}}, m.snapshots...)
		slices.SortStableFunc(m.snapshots, func(a, b *snapshot) int {
			if a.meta.Term != b.meta.Term {
				return int(int64(b.meta.Term) - int64(a.meta.Term))
			}
			return int(int64(b.meta.Index) - int64(a.meta.Index))
		})
		m.snapshots = m.snapshots[:min(len(m.snapshots), Keep)]
		return nil
	})
}
