package object

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// faults are what a proxy does to connections and to what clients send on them.
type faults struct {
	cutEvery, cutAfter int64 // every n-th connection ends after so many bytes
	bytesPerSecond     int64
	flipEvery, flipAt  int64 // of every n-th connection the bit at that byte of what is sent
}

// proxy passes TCP connections on.
type proxy struct {
	address string
	count   atomic.Int64 // faults so far
	mu      sync.Mutex
	faults  faults
	seen    int64
}

func (p *proxy) set(f faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.seen = f, 0
	p.count.Store(0)
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{address: l.Addr().String()}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(in, to)
		}
	}()
	return p
}

func (p *proxy) serve(in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	p.mu.Lock()
	p.seen++
	f, n := p.faults, p.seen
	p.mu.Unlock()
	end := make(chan struct{}, 2)
	pass := func(w io.Writer, r io.Reader, sent bool) {
		defer func() { end <- struct{}{} }()
		buf := make([]byte, 32<<10)
		for at := int64(0); ; {
			k, err := r.Read(buf)
			if f.flipEvery > 0 && n%f.flipEvery == 0 && sent && at <= f.flipAt && f.flipAt < at+int64(k) {
				buf[f.flipAt-at] ^= 1
				p.count.Add(1)
			}
			at += int64(k)
			if f.bytesPerSecond > 0 {
				time.Sleep(time.Duration(k) * time.Second / time.Duration(f.bytesPerSecond))
			}
			if _, werr := w.Write(buf[:k]); err != nil || werr != nil {
				return
			}
			if f.cutEvery > 0 && n%f.cutEvery == 0 && at > f.cutAfter {
				p.count.Add(1)
				return
			}
		}
	}
	go pass(out, in, true)
	go pass(in, out, false)
	<-end
}
