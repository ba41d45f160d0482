package direct

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

func listen(t testing.TB, change ...func(*Options)) *Node {
	t.Helper()
	o := Options{Listen: "127.0.0.1:0", Failure: 300 * time.Millisecond}
	for _, f := range change {
		f(&o)
	}
	n, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func secret() []byte {
	b := make([]byte, 32)
	rand.Read(b)
	return b
}

// echo answers with a payload of q.Hi bytes that q.Lo says.
func echo(_ context.Context, q *wire.ChunkRequest) (*wire.Chunk, func()) {
	return &wire.Chunk{Payload: bytes.Repeat([]byte{byte(q.Lo)}, int(q.Hi)), Digest: "d", Key: q.Key}, nil
}

func attend(t testing.TB, n *Node, worker string, s []byte, h Handler) Peer {
	t.Helper()
	stop, err := n.Attend("run", worker, s, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return Peer{Run: "run", Worker: worker, Address: n.Address(), Secret: s}
}

func TestAskManyAtOnce(t *testing.T) {
	a, b := listen(t), listen(t)
	p := attend(t, b, "b", secret(), echo)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			q := &wire.ChunkRequest{Run: "run", Stream: "x", Lo: int64(i), Hi: int64(i * 997), Key: fmt.Sprint(i)}
			c, done, err := a.Ask(t.Context(), "a", p, q)
			if err != nil {
				t.Error(err)
				return
			}
			defer done()
			if c.Key != q.Key || c.Digest != "d" || !bytes.Equal(c.Payload, bytes.Repeat([]byte{byte(i)}, i*997)) {
				t.Errorf("answer %d: key %q, %d bytes", i, c.Key, len(c.Payload))
			}
		})
	}
	all.Wait()
	if c := b.Counters(); c != (Counters{}) {
		t.Errorf("counters of a good exchange = %+v, want none", c)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	a, b := listen(t), listen(t)
	p := attend(t, b, "b", secret(), echo)
	for name, change := range map[string]func(*Peer){
		"other secret": func(p *Peer) { p.Secret = secret() },
		"other run":    func(p *Peer) { p.Run = "other" },
		"other worker": func(p *Peer) { p.Worker = "c" },
	} {
		t.Run(name, func(t *testing.T) {
			other := p
			change(&other)
			if _, _, err := a.Ask(t.Context(), "a", other, &wire.ChunkRequest{Hi: 1}); !errors.Is(err, ErrRefused) {
				t.Errorf("Ask = %v, want ErrRefused", err)
			}
		})
	}
	// The secret itself is needed, not only a holder that does not check: an asker without it learns nothing to replay.
	if c := b.Counters(); c.Refused < 2 {
		t.Errorf("refusals counted: %+v, want at least those of another run and worker", c)
	}
}

// handshaken returns a raw connection that has shown the secret.
func handshaken(t *testing.T, p Peer) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := greet(c, p, "raw", time.Second); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBadFramesEndTheConnectionByName(t *testing.T) {
	good := func(id uint32) []byte {
		var b bytes.Buffer
		head, err := wire.Encode(&wire.ChunkRequest{Run: "run", Hi: 1})
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		go func() {
			_ = (&frame{kind: question, id: id, head: head}).write(client, time.Now().Add(time.Second))
			client.Close()
		}()
		if _, err := io.Copy(&b, server); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, c := range map[string]struct {
		send  func() []byte
		count func(Counters) int64
	}{
		"flipped bit":   {func() []byte { b := good(1); b[headerSize+5] ^= 1; return b }, func(c Counters) int64 { return c.Damaged }},
		"not ours":      {func() []byte { return []byte("GET / HTTP/1.1\r\nHost: a very long name\r\n\r\n") }, func(c Counters) int64 { return c.Damaged }},
		"oversized":     {func() []byte { b := good(1); binary.LittleEndian.PutUint32(b[8:], 1<<30); return b }, func(c Counters) int64 { return c.Oversized }},
		"with payload":  {func() []byte { b := good(1); binary.LittleEndian.PutUint32(b[12:], 1); return b }, func(c Counters) int64 { return c.Oversized }},
		"stops halfway": {func() []byte { return good(1)[:headerSize+1] }, func(c Counters) int64 { return c.Slow }},
		"over credit": {func() []byte {
			var all []byte
			for i := range 40 {
				all = append(all, good(uint32(i))...)
			}
			return all
		}, func(c Counters) int64 { return c.Credit }},
	} {
		t.Run(name, func(t *testing.T) {
			b := listen(t, func(o *Options) { o.Window = 8 })
			p := attend(t, b, "b", secret(), func(ctx context.Context, _ *wire.ChunkRequest) (*wire.Chunk, func()) {
				<-ctx.Done()
				return &wire.Chunk{Later: true}, nil
			})
			conn := handshaken(t, p)
			if _, err := conn.Write(c.send()); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(5 * time.Second); c.count(b.Counters()) == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("counters = %+v, want it counted", b.Counters())
				}
			}
		})
	}
}

// Who takes no bytes is cut off, and named; the answers of others are not held up.
func TestSlowConsumerIsNamed(t *testing.T) {
	b := listen(t)
	p := attend(t, b, "b", secret(), echo)
	slowOne := handshaken(t, p)
	head, err := wire.Encode(&wire.ChunkRequest{Run: "run", Hi: wire.MaxMessage})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 16 {
		if err := (&frame{kind: question, id: uint32(i), head: head}).write(slowOne, time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	a := listen(t)
	if _, _, err := a.Ask(t.Context(), "a", p, &wire.ChunkRequest{Hi: 10}); err != nil {
		t.Errorf("Ask beside a slow consumer: %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); b.Counters().Slow == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("counters = %+v, want a slow consumer", b.Counters())
		}
	}
}

// A connection that is silent is taken for dead, and the next question makes a new one. Without a listener: an error, and
// when it is back, answers.
func TestReconnect(t *testing.T) {
	a, b := listen(t), listen(t)
	s := secret()
	var silent sync.Map
	h := func(ctx context.Context, q *wire.ChunkRequest) (*wire.Chunk, func()) {
		if _, yes := silent.Load("yes"); yes {
			<-ctx.Done()
		}
		return echo(ctx, q)
	}
	p := attend(t, b, "b", s, h)
	q := &wire.ChunkRequest{Hi: 3}
	if _, _, err := a.Ask(t.Context(), "a", p, q); err != nil {
		t.Fatal(err)
	}
	silent.Store("yes", true)
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, _, err := a.Ask(ctx, "a", p, q); err == nil {
		t.Fatal("Ask of a silent worker has no error")
	}
	silent.Delete("yes")
	if _, _, err := a.Ask(t.Context(), "a", p, q); err != nil {
		t.Errorf("Ask after a silence: %v", err)
	}
	address := b.Address()
	b.Close()
	if _, _, err := a.Ask(t.Context(), "a", p, q); err == nil {
		t.Error("Ask of a closed Node has no error")
	}
	again := listen(t, func(o *Options) { o.Listen = address })
	attend(t, again, "b", s, h)
	var err error
	for range 4 { // each slot notices by itself
		if _, _, err = a.Ask(t.Context(), "a", p, q); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("Ask after the worker is back: %v", err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	func() {
		a, err := Listen(Options{Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Listen(Options{Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		s := secret()
		if _, err := b.Attend("run", "b", s, echo); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, _, err := a.Ask(t.Context(), "a", Peer{"run", "b", b.Address(), s}, &wire.ChunkRequest{Hi: 9}); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	}()
	for deadline := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{'C', 'D', 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := net.Pipe()
		defer server.Close()
		go func() {
			_, _ = client.Write(b)
			client.Close()
		}()
		o := Options{Failure: time.Second, Buffer: func(n int) []byte { return make([]byte, n) }}
		r := newReader(server, question, 1<<10, &o)
		for {
			x, err := r.next()
			if err != nil {
				return
			}
			if len(x.head) > maxHead || len(x.payload) > 1<<10 {
				t.Fatalf("frame with a head of %d and a payload of %d bytes", len(x.head), len(x.payload))
			}
		}
	})
}

func FuzzReadHello(f *testing.F) {
	h, _ := helloOf("run", "a", "b")
	f.Add(h)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, run, from, to, err := readHello(bytes.NewReader(b))
		if err == nil && (!bytes.Equal(got, b[:len(got)]) || run == "" || from == "" || to == "") {
			t.Errorf("readHello(%x) = %x, %q, %q, %q", b, got, run, from, to)
		}
	})
}
