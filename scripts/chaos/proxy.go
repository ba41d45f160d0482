package main

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy passes TCP connections on, at a rate and after a stop that can be changed while it does.
type proxy struct {
	listener net.Listener
	target   string
	rate     atomic.Int64 // bytes a second in each direction; 0 = as they come
	held     atomic.Bool  // nothing passes
	mu       sync.Mutex
	open     map[net.Conn]bool
}

func newProxy(listen, target string) (*proxy, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, open: map[net.Conn]bool{}}
	go p.serve()
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			out, err := net.DialTimeout("tcp", p.target, 2*time.Second)
			if err != nil {
				in.Close()
				return
			}
			p.mu.Lock()
			p.open[in], p.open[out] = true, true
			p.mu.Unlock()
			var both sync.WaitGroup
			both.Go(func() { p.pass(out, in) })
			both.Go(func() { p.pass(in, out) })
			both.Wait()
			p.mu.Lock()
			delete(p.open, in)
			delete(p.open, out)
			p.mu.Unlock()
		}()
	}
}

// pass copies until one side ends, then ends the other.
func (p *proxy) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		for p.held.Load() {
			time.Sleep(5 * time.Millisecond)
		}
		if rate := p.rate.Load(); rate > 0 {
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return // io.EOF, or either end is gone
		}
	}
}

// reset breaks every connection.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Close()
	}
}

func (p *proxy) close() {
	p.listener.Close()
	p.reset()
}
