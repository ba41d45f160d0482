package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus/membus"
)

// leader answers as a coordinator that leads does, from what the test puts into it.
type leader struct {
	conn *bus.Conn
	stop []func()

	mu       sync.Mutex
	overview coordinator.Overview
	keys     map[string]string // run by idempotency key
	files    [][]byte
	prepare  int // answers to submissions that say Preparing, first
	asked    []wire.Control
	events   []wire.RunEvent
	lines    []wire.Log
}

func newLeader(t *testing.T, b *membus.Network, runs ...coordinator.RunSummary) *leader {
	t.Helper()
	l := &leader{conn: dial(t, b, "leader"), keys: map[string]string{}}
	l.overview = coordinator.Overview{Version: "test", Runs: runs, Workers: []coordinator.WorkerStatus{{Worker: "w-1", Name: "w"}}}
	serve(t, l, wire.RunsSubject, func(*wire.RunsRequest) *wire.RunsReply { return &wire.RunsReply{JSON: marshal(l.overview)} })
	serve(t, l, wire.StatusSubject, func(q *wire.StatusRequest) *wire.StatusReply {
		return &wire.StatusReply{JSON: marshal(coordinator.Status{Run: q.Run, Name: "n", State: "running", Workers: []coordinator.WorkerStatus{}})}
	})
	serve(t, l, wire.SubmitSubject, func(q *wire.SubmitRequest) *wire.SubmitReply {
		if l.prepare > 0 {
			l.prepare--
			return &wire.SubmitReply{Preparing: true}
		}
		if bytes.Contains(q.File, []byte("refuse me")) {
			return &wire.SubmitReply{Err: "run.yaml:1:1: name: refused"}
		}
		if run, ok := l.keys[q.Key]; ok {
			return &wire.SubmitReply{Run: run, Existing: true}
		}
		l.files = append(l.files, q.File)
		id := fmt.Sprintf("new-%d", len(l.files))
		l.keys[q.Key] = id
		l.overview.Runs = append(l.overview.Runs, coordinator.RunSummary{ID: id, Name: "new", State: "queued", Priority: q.Priority})
		return &wire.SubmitReply{Run: id}
	})
	serve(t, l, wire.ControlSubject, func(q *wire.Control) *wire.ControlReply {
		l.asked = append(l.asked, *q)
		if q.Reason == "refuse me" {
			return &wire.ControlReply{Err: "the run is over", State: wire.Finished}
		}
		return &wire.ControlReply{Run: q.Run, State: map[string]wire.RunState{wire.ActionPause: wire.Stopping, wire.ActionCancel: wire.Cancelled}[q.Action]}
	})
	serve(t, l, wire.EventsSubject, func(q *wire.EventsRequest) *wire.EventsReply {
		r := &wire.EventsReply{}
		for _, e := range l.events {
			if e.Run == q.Run && e.ID > q.After {
				if r.More = len(r.Events) == 3; r.More { // small answers, so that they follow one another
					break
				}
				r.Events = append(r.Events, e)
			}
		}
		return r
	})
	serve(t, l, wire.LogsSubject, func(*wire.LogsRequest) *wire.LogsReply { return &wire.LogsReply{Lines: l.lines} })
	if err := l.conn.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func serve[Q, R any](t *testing.T, l *leader, subject string, f func(*Q) *R) {
	t.Helper()
	sub, err := bus.Serve(l.conn, subject, "coordinators", func(q *Q, reply func(*R)) {
		l.mu.Lock()
		defer l.mu.Unlock()
		reply(f(q))
	})
	if err != nil {
		t.Fatal(err)
	}
	l.stop = append(l.stop, sub.Unsubscribe)
}

// die stops answering, as a killed coordinator does.
func (l *leader) die() {
	for _, stop := range l.stop {
		stop()
	}
}

// happen publishes an event.
func (l *leader) happen(t *testing.T, run string, id int64) {
	t.Helper()
	e := wire.RunEvent{ID: id, Run: run, JSON: marshal(coordinator.Event{ID: id, Kind: "step", Run: run, Step: id})}
	l.mu.Lock()
	l.events = append(l.events, e)
	l.mu.Unlock()
	if err := l.conn.Publish(wire.EventSubject, &e); err != nil {
		t.Error(err)
	}
}

func dial(t *testing.T, b *membus.Network, name string) *bus.Conn {
	t.Helper()
	c, err := b.Dial(name, bus.Options{Name: name, FailureTimeout: 100 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// open starts a server on loopback; adapt changes its options.
func open(t *testing.T, b *membus.Network, adapt func(*Options)) *Server {
	t.Helper()
	o := Options{
		Listen: "127.0.0.1:0", Conn: dial(t, b, "api"), Coordinator: "a", Version: "test", FailureTimeout: 100 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler),
	}
	if adapt != nil {
		adapt(&o)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want none", err)
		}
	})
	return s
}

// client asks a server, and gives up soon.
func client(t *testing.T, servers ...string) *Client {
	t.Helper()
	c, err := NewClient(ClientOptions{Servers: servers, Patience: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// send sends one plain request.
func send(t *testing.T, method, url, media, body string, headers ...string) (int, []byte, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b, resp.Header
}
