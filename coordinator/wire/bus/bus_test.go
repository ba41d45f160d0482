package bus_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// TestMain makes this binary a client that is killed: see TestDeadProcess.
func TestMain(m *testing.M) {
	if url := os.Getenv("BUS_TEST_CLIENT"); url != "" {
		c, err := bus.Connect(context.Background(), bus.Options{URL: url, Name: "victim", FailureTimeout: time.Second, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			panic(err)
		}
		if err := c.Publish("up", &wire.Log{Text: "up"}); err != nil {
			panic(err)
		}
		select {}
	}
	os.Exit(m.Run())
}

func start(t *testing.T, o bus.ServerOptions) *bus.Server {
	t.Helper()
	o.FailureTimeout, o.Log = time.Second, slog.New(slog.DiscardHandler)
	s, err := bus.StartServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func connect(t *testing.T, o bus.Options) *bus.Conn {
	t.Helper()
	o.FailureTimeout, o.Log = time.Second, slog.New(slog.DiscardHandler)
	c, err := bus.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestPublishRequestServe(t *testing.T) {
	for name, listen := range map[string]string{"in process": "", "TCP": "127.0.0.1:0"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, bus.ServerOptions{Listen: listen})
			at := bus.Options{Server: s, Name: "a"}
			if listen != "" {
				at = bus.Options{URL: s.URL(), Name: "a"}
			}
			a := connect(t, at)
			at.Name = "b"
			b := connect(t, at)

			got := make(chan *wire.Chunk, 1)
			if _, err := bus.Subscribe(b, "chunks", func(m *wire.Chunk) { got <- m }); err != nil {
				t.Fatal(err)
			}
			if _, err := bus.Serve(b, "beats", "q", func(q *wire.Beat, reply func(*wire.Pulse)) {
				go reply(&wire.Pulse{Known: q.Worker == "w"})
			}); err != nil {
				t.Fatal(err)
			}
			if err := b.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			payload := bytes.Repeat([]byte{7}, 7<<20)
			if err := a.Publish("chunks", &wire.Chunk{Payload: payload}); err != nil {
				t.Fatal(err)
			}
			if m := <-got; !bytes.Equal(m.Payload, payload) {
				t.Errorf("chunk of %d bytes arrived as %d", len(payload), len(m.Payload))
			}
			p, err := bus.Request[wire.Pulse](t.Context(), a, "beats", &wire.Beat{Worker: "w"})
			if err != nil || !p.Known {
				t.Errorf("Request = %+v, %v, want Known", p, err)
			}
			if _, err := bus.Request[wire.Pulse](t.Context(), a, "nobody", &wire.Beat{}); !errors.Is(err, bus.ErrNoResponder) {
				t.Errorf("Request(nobody) = %v, want ErrNoResponder", err)
			}
		})
	}
}

func TestStrangeMessageIsRaised(t *testing.T) {
	s := start(t, bus.ServerOptions{})
	raised := make(chan error, 1)
	a, b := connect(t, bus.Options{Server: s}), connect(t, bus.Options{Server: s, Errors: func(err error) { raised <- err }})
	if _, err := bus.Subscribe(b, "x", func(*wire.Hello) { t.Error("a Leave was taken for a Hello") }); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Flush(t.Context()), a.Publish("x", &wire.Leave{})); err != nil {
		t.Fatal(err)
	}
	if err := <-raised; !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("raised %v, want ErrMalformed", err)
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = bus.StartServer(bus.ServerOptions{Listen: l.Addr().String(), FailureTimeout: time.Second, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("StartServer on a taken port = %v, want address already in use", err)
	}
}

// A killed process is known by its connection, not by its silence.
func TestDeadProcess(t *testing.T) {
	var mu sync.Mutex
	gone := make(chan time.Time, 8)
	s := start(t, bus.ServerOptions{Listen: "127.0.0.1:0", Disconnected: func(name, reason string) {
		mu.Lock()
		defer mu.Unlock()
		if name == "victim" {
			gone <- time.Now()
		}
	}})
	c := connect(t, bus.Options{Server: s})
	up := make(chan bool, 1)
	if _, err := bus.Subscribe(c, "up", func(*wire.Log) { up <- true }); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BUS_TEST_CLIENT="+s.URL())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-up
	killed := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	at := <-gone
	t.Logf("known %v after kill -9", at.Sub(killed))
	if d := at.Sub(killed); d > 200*time.Millisecond {
		t.Errorf("the dead process was known after %v, want at most 200ms", d)
	}
}

func TestReconnect(t *testing.T) {
	s := start(t, bus.ServerOptions{Listen: "127.0.0.1:0"})
	url := s.URL()
	c := connect(t, bus.Options{URL: url})
	s.Close()
	for c.Connected() {
		time.Sleep(time.Millisecond)
	}
	if err := c.Publish("x", &wire.Leave{}); !errors.Is(err, bus.ErrDisconnected) {
		t.Errorf("a publish without a connection = %v, want ErrDisconnected", err)
	}
	start(t, bus.ServerOptions{Listen: strings.TrimPrefix(url, "nats://")})
	for deadline := time.Now().Add(5 * time.Second); !c.Connected(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not connected again after 5s")
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	s, err := bus.StartServer(bus.ServerOptions{FailureTimeout: time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	c, err := bus.Connect(b.Context(), bus.Options{Server: s, FailureTimeout: time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if _, err := bus.Serve(c, "y", "", func(_ *wire.Report, reply func(*wire.Verdict)) { reply(&wire.Verdict{}) }); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := bus.Request[wire.Verdict](b.Context(), c, "y", &wire.Report{Run: "r", Maxima: make([]float32, 56)}); err != nil {
			b.Fatal(err)
		}
	}
}
