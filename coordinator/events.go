package coordinator

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"sort"
	"sync"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// keptEvents is how many events a coordinator remembers, of all runs; the run's folder has all of them.
const keptEvents = 20000

// history is the newest events of the fleet. Every coordinator keeps them, as it hears of them, so that whoever leads
// can tell them to somebody who asks from where he was.
type history struct {
	mu   sync.Mutex
	ring []wire.RunEvent // by id, ascending, beginning at next when full
	next int
	gone int64 // the newest id that is no longer kept
}

// add keeps an event, unless it is here already: a leader hears its own ones twice.
func (h *history) add(e wire.RunEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.ID <= h.newest() {
		return
	}
	if len(h.ring) < keptEvents {
		h.ring = append(h.ring, e)
		return
	}
	h.gone = h.ring[h.next].ID
	h.ring[h.next] = e
	h.next = (h.next + 1) % keptEvents
}

func (h *history) newest() int64 {
	if len(h.ring) == 0 {
		return 0
	}
	return h.ring[(h.next+len(h.ring)-1)%len(h.ring)].ID
}

// maxEventsReply bounds an answer in bytes, well below wire.MaxMessage.
const maxEventsReply = 1 << 20

// after answers a request for the events after an id.
func (h *history) after(q *wire.EventsRequest) *wire.EventsReply {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &wire.EventsReply{}
	if q.After < h.gone {
		r.Gone = h.gone
	}
	n := len(h.ring)
	size := 0
	from := sort.Search(n, func(i int) bool { return h.ring[(h.next+i)%n].ID > q.After })
	for i := from; i < n; i++ {
		e := h.ring[(h.next+i)%n]
		if q.Run != "" && e.Run != q.Run {
			continue
		}
		if size += len(e.JSON); size > maxEventsReply || q.Limit > 0 && len(r.Events) >= q.Limit {
			r.More = true
			break
		}
		r.Events = append(r.Events, e)
	}
	return r
}

// recoveries returns the newest recoveries of a run, oldest first, at most n.
func (h *history) recoveries(run string, n int) (out []Recovery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.ring) - 1; i >= 0 && len(out) < n; i-- {
		e := h.ring[(h.next+i)%len(h.ring)]
		if e.Run != run || !bytes.Contains(e.JSON, []byte(`"recovery":`)) {
			continue
		}
		var event Event
		if json.Unmarshal(e.JSON, &event) == nil && event.Recovery != nil {
			out = append(out, *event.Recovery)
		}
	}
	slices.Reverse(out)
	return out
}

// maxHistory is how much of the end of events.jsonl is read when a coordinator starts.
const maxHistory = 8 << 20

// load reads the newest events of an earlier life, of one file or of several runs'. What cannot be read is not
// remembered; the files themselves stay.
func (h *history) load(paths ...string) error {
	var all []wire.RunEvent
	var errs []error
	cut := false
	for _, path := range paths {
		events, c, err := readEvents(path)
		all, cut, errs = append(all, events...), cut || c, append(errs, err)
	}
	slices.SortStableFunc(all, func(a, b wire.RunEvent) int { return cmp.Compare(a.ID, b.ID) })
	if cut && len(all) > 0 {
		h.gone = all[0].ID - 1
	}
	for _, e := range all {
		h.add(e)
	}
	return errors.Join(errs...)
}

// readEvents reads the end of a file of events; cut says that it has more.
func readEvents(path string) (events []wire.RunEvent, cut bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		if _, err := f.Seek(max(0, size-maxHistory), io.SeekStart); err != nil {
			return nil, false, err
		}
		cut = size > maxHistory
	}
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var e Event
		if json.Unmarshal(scanner.Bytes(), &e) == nil && e.ID > 0 {
			events = append(events, wire.RunEvent{ID: e.ID, Run: e.Run, JSON: bytes.Clone(scanner.Bytes())})
		}
	}
	return events, cut, scanner.Err()
}
