package consensus

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands before a member: it can be pointed at the member's newest life, and its connections can be cut.
type proxy struct {
	t     testing.TB
	own   string
	mu    sync.Mutex
	l     net.Listener // nil: nobody listens, as when the process is gone
	at    string
	conns map[net.Conn]bool
}

func newProxy(t testing.TB) *proxy {
	p := &proxy{t: t, own: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	p.listen()
	t.Cleanup(p.close)
	return p
}

func (p *proxy) listen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.l != nil {
		return
	}
	l, err := net.Listen("tcp", p.own)
	if err != nil {
		p.t.Fatal(err)
	}
	p.l, p.own = l, l.Addr().String()
	go p.run(l)
}

// close ends the listener, and every connection.
func (p *proxy) close() {
	p.mu.Lock()
	if p.l != nil {
		_ = p.l.Close()
		p.l = nil
	}
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) address() string { return p.own }

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

func (p *proxy) run(l net.Listener) {
	for {
		in, err := l.Accept()
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
