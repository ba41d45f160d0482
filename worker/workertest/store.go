package workertest

import (
	"errors"
	"sync"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// Feed serves the toy's batches to a coordinator.
type Feed struct {
	Language bool
	Queries  int // of a batch, and its shards; 0 = 9
}

func (f Feed) batch(step int64) (data.Header, []data.Shard) {
	n := f.Queries
	if n == 0 || step < 0 {
		n = queries
	}
	h, shards := batch(step, n)
	if f.Language {
		h.Queries = 0
	}
	return h, shards
}

// Digest implements coordinator.Feed.
func (Feed) Digest() string { return "toy data" }

// Header implements coordinator.Feed.
func (f Feed) Header(step int64) (data.Header, error) {
	h, _ := f.batch(step)
	return h, nil
}

// Shards implements coordinator.Feed.
func (f Feed) Shards(step int64, indices []int) ([]data.Shard, error) {
	_, all := f.batch(step)
	var out []data.Shard
	for _, i := range indices {
		out = append(out, all[i])
	}
	return out, nil
}

// Suites is one suite: the texts of "step" -1.
type Suites struct{ Feed }

// Names implements coordinator.Suites.
func (Suites) Names() []string { return []string{"dev"} }

// Header implements coordinator.Suites.
func (s Suites) Header(int) (data.Header, error) { return s.Feed.Header(-1) }

// Describe implements coordinator.Suites.
func (Suites) Describe(int) ([]byte, error) { return []byte("{}"), nil }

// Shards implements coordinator.Suites.
func (s Suites) Shards(_ int, indices []int) ([]data.Shard, error) { return s.Feed.Shards(-1, indices) }

// Store holds checkpoints in memory.
type Store struct {
	Mu     sync.Mutex
	States map[string]trainer.State // by path
}

// NewStore returns an empty Store.
func NewStore() *Store { return &Store{States: map[string]trainer.State{}} }

// Verify implements coordinator.Store.
func (s *Store) Verify(path, _ string) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if _, ok := s.States[path]; !ok {
		return errors.New("not there")
	}
	return nil
}

// Remove implements coordinator.Store.
func (s *Store) Remove(path string) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	delete(s.States, path)
	return nil
}
