package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/object"
	"github.com/counterpoint-ml/counterpoint/data"
)

// stores are the open stores of a process, by their place.
type stores struct {
	log  *slog.Logger
	mu   sync.Mutex
	open map[string]checkpoints.Store
}

func newStores(log *slog.Logger) *stores {
	return &stores{log: log, open: map[string]checkpoints.Store{}}
}

// at returns the store of a folder or URL.
func (s *stores) at(where string) (checkpoints.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if store := s.open[where]; store != nil {
		return store, nil
	}
	store, err := object.New(where, storeOptions(s.log))
	if err == nil {
		s.open[where] = store
	}
	return store, err
}

// checkpoint returns the store of a checkpoint's path, and its name there.
func (s *stores) checkpoint(path string) (store checkpoints.Store, name string, err error) {
	where, name := filepath.Dir(path), filepath.Base(path)
	if object.IsURL(path) {
		if where, name = object.Split(path); name == "" {
			return nil, "", fmt.Errorf("%s is no checkpoint's URL: its last part is to be as %s", path, checkpoints.Name(100))
		}
	}
	store, err = s.at(where)
	return store, name, err
}

// storeOptions puts what is on this machine of a remote store below the folder of all our caches.
func storeOptions(log *slog.Logger) object.Options {
	o := object.Options{Log: log}
	if dir := os.Getenv(data.CacheVariable); dir != "" && dir != "off" {
		o.Cache = filepath.Join(dir, "stores")
	}
	return o
}

// findModel returns the folder that path means: of a URL, that of a checkpoint or of the newest in a store, fetched to
// this machine and compared with its manifest; of a run or a folder of checkpoints, the newest sound one.
func findModel(ctx context.Context, path string, log *slog.Logger) (string, error) {
	folder, err := object.Folder(path)
	if err != nil {
		return "", err
	}
	if folder != "" || path == "" {
		return checkpoints.Find(ctx, folder, log)
	}
	where, name := object.Split(path)
	store, err := object.Open(where, storeOptions(log))
	if err != nil {
		return "", err
	}
	if name == "" {
		entry, damaged, err := (&checkpoints.Series{Store: store}).Newest(ctx)
		if log != nil {
			for _, d := range damaged {
				log.Warn("a damaged checkpoint is left out", "error", d)
			}
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, errors.Join(append([]error{err}, damaged...)...))
		}
		name = entry.Name
	}
	if err := store.Pin(name); err != nil {
		return "", err
	}
	return store.Fetch(ctx, name)
}

// checkpointStore is the coordinator's view of the checkpoints: it verifies and removes what workers write. While a store
// does not answer it waits: that says nothing about a checkpoint.
type checkpointStore struct {
	*stores
	ctx    context.Context
	cancel context.CancelFunc
}

func newStore(log *slog.Logger) *checkpointStore {
	s := &checkpointStore{stores: newStores(log)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// finishing is how long a process that ends waits for a store to remove what retention has dropped.
const finishing = 20 * time.Second

// finish lets what is being done come to its end, but not for ever.
func (s *checkpointStore) finish() { time.AfterFunc(finishing, s.cancel) }

// close ends what waits for a store.
func (s *checkpointStore) close() { s.cancel() }

// Verify implements coordinator.Store.
func (s *checkpointStore) Verify(path, digest string) error {
	return s.insist("verify "+path, func() error { return s.verify(s.ctx, path, digest) })
}

// Remove implements coordinator.Store.
func (s *checkpointStore) Remove(path string) error {
	return s.insist("remove "+path, func() error {
		store, name, err := s.checkpoint(path)
		if err != nil {
			return err
		}
		return store.Remove(s.ctx, name)
	})
}

// insist does something until the store answers.
func (s *checkpointStore) insist(what string, do func() error) error {
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		err := do()
		if !errors.Is(err, checkpoints.ErrUnreachable) || s.ctx.Err() != nil {
			return err
		}
		s.log.Warn("the checkpoint store does not answer; trying again", "for", what, "error", err)
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return err
		}
	}
}

// verify reads a checkpoint once. One in a bucket whose every byte is what its committed manifest says needs no other
// look; a folder is looked through.
func (s *stores) verify(ctx context.Context, path, digest string) error {
	var m *checkpoints.Manifest
	if object.IsURL(path) {
		store, name, err := s.checkpoint(path)
		if err != nil {
			return err
		}
		if m, err = store.Inspect(ctx, name, true); err != nil {
			return err
		}
	} else {
		report := checkpoints.Verify(ctx, path, checkpoints.Hashers{})
		if err := report.Err(); err != nil {
			return err
		}
		m = report.Manifest
	}
	if got := m.Digest(); digest != "" && got != digest {
		return fmt.Errorf("manifest of %s has digest %.16s, the committed one is %.16s", path, got, digest)
	}
	return nil
}

// reach asks the run's store whether it may be used. Where a run has been before, a store that is only silent is no reason
// not to go on: its checkpoints wait on this machine.
func (p *prepared) reach(ctx context.Context, log *slog.Logger) error {
	if !object.IsURL(p.store) {
		return nil
	}
	o := storeOptions(log)
	o.Patience = 5 * time.Second
	store, err := object.Open(p.store, o)
	if err != nil {
		return err
	}
	err = store.Check(ctx)
	var refused *object.Error
	if _, fresh := os.Stat(filepath.Join(p.dir, "events.jsonl")); fresh == nil && errors.As(err, &refused) && refused.Code == "" && ctx.Err() == nil {
		log.Warn("the checkpoint store does not answer; the run goes on, and its checkpoints wait on the workers' disks", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("checkpoint.store: %w", err)
	}
	return nil
}

// place names a store for people.
func place(store string) string {
	if object.IsURL(store) {
		return store
	}
	return relative(store)
}
