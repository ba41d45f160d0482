package consensus

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands before a member: it can be pointed at the member's newest life, and its connections can be cut.
type proxy struct {
	l     net.Listener
	mu    sync.Mutex
	at    string
	conns map[net.Conn]bool
}

func newProxy(t testing.TB) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, conns: map[net.Conn]bool{}}
	go p.run()
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
	})
	return p
}

func (p *proxy) address() string { return p.l.Addr().String() }

func (p *proxy) target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *proxy) to(at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = at
}

// cut ends what is open.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.conns = map[net.Conn]bool{}
}

func (p *proxy) run() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		at := p.at
		p.conns[in] = true
		p.mu.Unlock()
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", at)
			if err != nil {
				return
			}
			defer out.Close()
			p.mu.Lock()
			p.conns[out] = true
			p.mu.Unlock()
			go func() {
				_, _ = io.Copy(out, in)
				_ = out.Close()
			}()
			_, _ = io.Copy(in, out)
		}()
	}
}
