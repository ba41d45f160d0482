package membus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus/membus"
)

func dial(t testing.TB, n *membus.Network, host string) *bus.Conn {
	t.Helper()
	c, err := n.Dial(host, bus.Options{Name: host}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What the fleet relies on holds over NATS and in memory alike.
func TestConformance(t *testing.T) {
	carriers := map[string]func(t *testing.T) func(name string) *bus.Conn{
		"nats": func(t *testing.T) func(string) *bus.Conn {
			s, err := bus.StartServer(bus.ServerOptions{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			return func(name string) *bus.Conn {
				c, err := bus.Connect(t.Context(), bus.Options{Server: s, Name: name})
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
		},
		"memory": func(t *testing.T) func(string) *bus.Conn {
			n := membus.New(1, time.Millisecond)
			return func(name string) *bus.Conn { return dial(t, n, name) }
		},
	}
	for name, open := range carriers {
		t.Run(name, func(t *testing.T) {
			connect := open(t)
			a, b, c := connect("a"), connect("b"), connect("c")
			for _, x := range []*bus.Conn{a, b, c} {
				defer x.Close()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()

			// Every plain subscriber gets every message, in order; one of a queue gets each.
			const messages = 200
			plain := make(chan int64, messages)
			var queued [2]atomic.Int64
			if _, err := bus.Subscribe(b, "s", func(m *wire.ChunkRequest) { plain <- m.Round }); err != nil {
				t.Fatal(err)
			}
			for i, x := range []*bus.Conn{b, c} {
				if _, err := bus.Serve(x, "q", "queue", func(_ *wire.ChunkRequest, reply func(*wire.Chunk)) {
					queued[i].Add(1)
					go reply(&wire.Chunk{Size: int64(i)})
				}); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(b.Flush(ctx), c.Flush(ctx)); err != nil {
				t.Fatal(err)
			}
			for i := range int64(messages) {
				if err := a.Publish("s", &wire.ChunkRequest{Round: i}); err != nil {
					t.Fatal(err)
				}
				if _, err := bus.Request[wire.Chunk](ctx, a, "q", &wire.ChunkRequest{}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range int64(messages) {
				if got := <-plain; got != i {
					t.Fatalf("message %d came as number %d", got, i)
				}
			}
			if x, y := queued[0].Load(), queued[1].Load(); x+y != messages || x == 0 || y == 0 {
				t.Errorf("the queue's members served %d and %d requests, want %d together and some each", x, y, messages)
			}

			// A sender may use its buffer again: what arrives is what was sent.
			large := bytes.Repeat([]byte{7}, 1<<20)
			chunks := make(chan *wire.Chunk, 1)
			sub, err := bus.Subscribe(c, "big", func(m *wire.Chunk) { chunks <- m })
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.Flush(ctx), a.Publish("big", &wire.Chunk{Payload: large})); err != nil {
				t.Fatal(err)
			}
			if m := <-chunks; !bytes.Equal(m.Payload, large) {
				t.Error("a large message came changed")
			}

			// Nobody there: known at once. An answer that does not come: the context's end.
			sub.Unsubscribe()
			if err := c.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := bus.Request[wire.Chunk](ctx, a, "big", &wire.ChunkRequest{}); !errors.Is(err, bus.ErrNoResponder) {
				t.Errorf("Request after Unsubscribe = %v, want ErrNoResponder", err)
			}
			if _, err := bus.Serve(b, "mute", "", func(*wire.ChunkRequest, func(*wire.Chunk)) {}); err != nil {
				t.Fatal(err)
			}
			short, done := context.WithTimeout(ctx, 30*time.Millisecond)
			defer done()
			if err := b.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := bus.Request[wire.Chunk](short, a, "mute", &wire.ChunkRequest{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Request without an answer = %v, want DeadlineExceeded", err)
			}
			b.Close()
			if err := b.Publish("s", &wire.ChunkRequest{}); !errors.Is(err, bus.ErrClosed) {
				t.Errorf("Publish after Close = %v, want ErrClosed", err)
			}
			if b.Connected() || !a.Connected() {
				t.Errorf("connected: closed one %v, other %v; want false, true", b.Connected(), a.Connected())
			}
		})
	}
}

// In a bubble a network's faults have the sizes asked for, and nothing is left behind.
func TestFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const sent = 4000
	for _, c := range []struct {
		name                 string
		faults               membus.Faults
		least, most          int  // arrivals
		ordered              bool // in the order of sending
		early, late          time.Duration
		distinctOnly, cutOff bool
	}{
		{name: "none", least: sent, most: sent, ordered: true},
		{name: "delay", faults: membus.Faults{Delay: 5 * time.Millisecond, Jitter: 20 * time.Millisecond}, least: sent, most: sent, ordered: true, early: 5 * time.Millisecond, late: 26 * time.Millisecond},
		{name: "drop", faults: membus.Faults{Drop: 0.25}, least: sent * 70 / 100, most: sent * 80 / 100, ordered: true},
		{name: "duplicate", faults: membus.Faults{Duplicate: 0.25, Late: 9 * time.Millisecond}, least: sent * 120 / 100, most: sent * 130 / 100, late: 10 * time.Millisecond},
		{name: "reorder", faults: membus.Faults{Reorder: 0.25, Late: 9 * time.Millisecond}, least: sent, most: sent, late: 10 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := membus.New(seed, time.Millisecond)
				n.SetFaults(c.faults)
				a, b := dial(t, n, "a"), dial(t, n, "b")
				defer a.Close()
				defer b.Close()
				var got []int64
				early, late := time.Hour, time.Duration(0)
				if _, err := bus.Subscribe(b, "s", func(m *wire.Log) {
					d := time.Since(m.Time)
					early, late = min(early, d), max(late, d)
					var i int64
					fmt.Sscan(m.Text, &i)
					got = append(got, i)
				}); err != nil {
					t.Fatal(err)
				}
				for i := range sent {
					if err := a.Publish("s", &wire.Log{Time: time.Now(), Text: fmt.Sprint(i)}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Millisecond)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if len(got) < c.least || len(got) > c.most {
					t.Errorf("%d messages came, want %d to %d", len(got), c.least, c.most)
				}
				if slices.IsSorted(got) != c.ordered {
					t.Errorf("came in order: %v, want %v", !c.ordered, c.ordered)
				}
				if early < c.early || late > c.late {
					t.Errorf("took %v to %v, want within %v and %v", early, late, c.early, c.late)
				}
			})
		})
	}
}

func TestCutsFreezesAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := membus.New(1, 3*time.Millisecond)
		var mu sync.Mutex // guards ended
		ended := map[string]string{}
		told := func(name string) string {
			mu.Lock()
			defer mu.Unlock()
			return ended[name]
		}
		watcher, err := n.Dial("w", bus.Options{Name: "w"}, func(name, reason string) {
			mu.Lock()
			defer mu.Unlock()
			ended[name] = reason
		})
		if err != nil {
			t.Fatal(err)
		}
		defer watcher.Close()
		a, b := dial(t, n, "a"), dial(t, n, "b")
		defer a.Close()
		var served atomic.Int64
		if _, err := bus.Serve(b, "s", "", func(_ *wire.Leave, reply func(*wire.Verdict)) { served.Add(1); reply(&wire.Verdict{}) }); err != nil {
			t.Fatal(err)
		}
		ask := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := bus.Request[wire.Verdict](ctx, a, "s", &wire.Leave{})
			return err
		}
		if err := ask(); err != nil || served.Load() != 1 {
			t.Errorf("ask = %v, served %d", err, served.Load())
		}
		n.Block("b", "a", true) // the question arrives, the answer does not
		if err := ask(); !errors.Is(err, context.DeadlineExceeded) || served.Load() != 2 {
			t.Errorf("ask over a one-way cut = %v, served %d; want DeadlineExceeded, 2", err, served.Load())
		}
		n.Mend()
		n.Block("a", "b", true)
		if err := ask(); !errors.Is(err, context.DeadlineExceeded) || served.Load() != 2 {
			t.Errorf("ask over the other cut = %v, served %d; want DeadlineExceeded, 2", err, served.Load())
		}
		n.Mend()
		n.Freeze("b")
		began := time.Now()
		time.AfterFunc(300*time.Millisecond, func() { n.Thaw("b") })
		if err := ask(); err != nil || time.Since(began) != 300*time.Millisecond {
			t.Errorf("ask a host that stood still for 300ms = %v after %v", err, time.Since(began))
		}
		n.Disconnect("b", "stale connection")
		if err := ask(); !errors.Is(err, bus.ErrNoResponder) {
			t.Errorf("ask a disconnected host = %v, want ErrNoResponder", err)
		}
		if err := b.Publish("x", &wire.Leave{}); !errors.Is(err, bus.ErrDisconnected) {
			t.Errorf("publish of a disconnected host = %v, want ErrDisconnected", err)
		}
		time.Sleep(4 * time.Millisecond)
		if told("b") != "stale connection" {
			t.Errorf("the watcher was told %q, want stale connection", told("b"))
		}
		n.Reconnect("b")
		if err := ask(); err != nil {
			t.Errorf("ask after a reconnect = %v", err)
		}
		n.Kill("b")
		time.Sleep(4 * time.Millisecond)
		if told("b") != "killed" || n.Connections() != 2 {
			t.Errorf("the watcher was told %q with %d connections left, want killed, 2", told("b"), n.Connections())
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	n := membus.New(1, 0)
	x, y := dial(b, n, "x"), dial(b, n, "y")
	defer x.Close()
	defer y.Close()
	if _, err := bus.Serve(y, "s", "", func(_ *wire.Report, reply func(*wire.Verdict)) { reply(&wire.Verdict{}) }); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := bus.Request[wire.Verdict](b.Context(), x, "s", &wire.Report{Run: "r", Maxima: make([]float32, 56)}); err != nil {
			b.Fatal(err)
		}
	}
}
