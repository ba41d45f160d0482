package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// event is what a coordinator tells of a run, as far as it matters here.
type event struct {
	Time       time.Time `json:"time"`
	Kind       string    `json:"kind"`
	Step       int64     `json:"step"`
	State      string    `json:"state"`
	Reason     string    `json:"reason"`
	Worker     string    `json:"worker"`
	Parameters string    `json:"parameters"`
	Loss       float64   `json:"loss"`

	teller *host
}

// watcher reads the events of all coordinators as they are written, and holds the run against its promises: a step has one
// digest, whoever tells of it.
type watcher struct {
	hosts []*host

	mu      sync.Mutex
	all     []event
	digests map[int64]string
	newest  int64
	leader  *host // who told of the newest step
	ended   string
	wrong   error
	changed chan struct{}
}

func newWatcher(hosts []*host) *watcher {
	return &watcher{hosts: hosts, digests: map[int64]string{}, changed: make(chan struct{})}
}

// run follows the files until ctx ends.
func (w *watcher) run(ctx context.Context) {
	at := map[string]int64{}
	var files map[string]*host
	for tick := 0; ctx.Err() == nil; tick++ {
		if tick%50 == 0 {
			files = w.files()
		}
		for path, h := range files {
			n, err := w.read(path, h, at[path])
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				w.fail(err)
			}
			at[path] = n
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (w *watcher) files() map[string]*host {
	found := map[string]*host{}
	for _, h := range w.hosts {
		_ = filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && d.Name() == "events.jsonl" {
				found[path] = h
			}
			return nil // folders come and go under our hands
		})
	}
	return found
}

// read takes the whole lines from an offset on and returns where it stopped.
func (w *watcher) read(path string, h *host, from int64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return from, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() <= from {
		return from, err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return from, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return from, err
	}
	for {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return from, nil
		}
		from, text = from+int64(len(line))+1, rest
		var e event
		if json.Unmarshal(line, &e) == nil { // else a kill cut it short
			e.teller = h
			w.take(e)
		}
	}
}

func (w *watcher) take(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, e)
	switch e.Kind {
	case "step":
		if old := w.digests[e.Step]; old != "" && old != e.Parameters {
			w.wrong = errors.Join(w.wrong, fmt.Errorf("step %d was committed with digest %s and with %s, by %s", e.Step, old, e.Parameters, e.teller.name))
		}
		w.digests[e.Step] = e.Parameters
		if e.Step >= w.newest {
			w.newest, w.leader = e.Step, e.teller
		}
	case "state":
		switch e.State {
		case "finished", "failed", "paused", "cancelled":
			w.ended = e.State + " " + e.Reason
		case "running":
			w.ended = ""
		}
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = errors.Join(w.wrong, err)
}

// first waits for the first event after a moment for which f holds.
func (w *watcher) first(ctx context.Context, after time.Time, f func(event) bool) (event, error) {
	for from := 0; ; {
		w.mu.Lock()
		for ; from < len(w.all); from++ {
			if e := w.all[from]; e.Time.After(after) && f(e) {
				w.mu.Unlock()
				return e, nil
			}
		}
		changed, wrong, ended := w.changed, w.wrong, w.ended
		w.mu.Unlock()
		if wrong != nil {
			return event{}, wrong
		}
		if ended != "" {
			return event{}, errEnded
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return event{}, ctx.Err()
		}
	}
}

var errEnded = errors.New("the run is over")

// pause returns the longest time between two committed steps, of which the later one came after a moment.
func (w *watcher) pause(after time.Time) (longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var steps []time.Time
	for _, e := range slices.Backward(w.all) {
		if e.Kind != "step" {
			continue
		}
		if steps = append(steps, e.Time); e.Time.Before(after) {
			break
		}
	}
	slices.SortFunc(steps, time.Time.Compare)
	for i := 1; i < len(steps); i++ {
		longest = max(longest, steps[i].Sub(steps[i-1]))
	}
	return longest
}

// now returns the newest step, who leads, and how the run ended.
func (w *watcher) now() (step int64, leader *host, ended string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest, w.leader, w.ended
}

// whole checks that every step up to the last was told of, and returns the digest after the last.
func (w *watcher) whole(steps int64) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	missing := 0
	for s := int64(1); s <= steps; s++ {
		if w.digests[s] == "" {
			missing++ // a leader may die between a commit and the line that tells of it
		}
	}
	if missing > 0 {
		say("%d of %d steps were committed by a leader that died before it told of them; the ledger has them", missing, steps)
	}
	return w.digests[steps], w.wrong
}
