// Package api is the fleet's HTTP interface: JSON over /v1, an OpenAPI document that says what it is, and its client.
//
// Every coordinator answers every request: a handler asks whoever leads, over the bus, and waits a little while an
// election goes on. So a client may talk to any of them, and may repeat any request: all of them are idempotent.
// DESIGN.md has the reasons.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// Bounds of the listener. A caller cannot raise them: all of this happens before anybody is known.
const (
	maxConnections = 1024
	maxStreams     = 256
	maxHeader      = 16 << 10
	maxBody        = 4 << 10 // of everything but a run file
	// MaxFile is the largest run file in bytes.
	MaxFile = 1 << 20

	connectRate, connectBurst = 50, 200  // connections of an address
	requestRate, requestBurst = 100, 400 // requests of an address, a second
	badToken                  = 20       // requests that a wrong token costs
)

// Options configure a Server.
type Options struct {
	Listen         string        // host:port; port 0 = any free one
	Conn           *bus.Conn     // to any of the coordinators' NATS servers; the caller closes it, after Run
	Coordinator    string        // the name of this one
	Version        string        // of the binary
	FailureTimeout time.Duration // how long an election may take derives from it; 0 = 1 s
	TLS            *tls.Config   // nil = plain HTTP, on loopback only
	Tokens         Tokens        // who may do what; nil = anybody on this machine may do everything, on loopback only
	Log            *slog.Logger  // nil = none
}

// Tokens knows the bearer tokens.
type Tokens interface {
	// Authorize returns what the bearer of a token may do and how the log names him. An error says in words that
	// tell a stranger nothing why a token is not taken.
	Authorize(token string) (role Role, name string, err error)
}

// Role is what a token allows.
type Role int

// The roles: each may do what the one before it may.
const (
	Anybody  Role = iota // no token is asked for: health, version, the document
	Viewer               // looks
	Operator             // steers
)

// String returns the role's name.
func (r Role) String() string { return [...]string{"anybody", "viewer", "operator"}[r] }

// Server answers HTTP requests for one coordinator.
type Server struct {
	o        Options
	listener net.Listener
	requests *buckets
	streams  chan struct{}
	refusals refusals
	hosts    map[string]bool // names that a browser may know this listener by; nil = any
	patience time.Duration   // how long a leader is looked for

	closing context.Context // ends with Run
	close   context.CancelFunc
}

// Open binds the address, so that a port that is taken is told at once. Run serves it.
func Open(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FailureTimeout <= 0 {
		o.FailureTimeout = time.Second
	}
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("cluster.api: %q: host:port is expected, such as 127.0.0.1:8300", o.Listen)
	}
	if !loopback(host) && (o.TLS == nil || o.Tokens == nil) {
		return nil, fmt.Errorf("cluster.api: %q is reachable from other machines, which needs cluster.tls and tokens; "+
			"127.0.0.1 needs neither (`counterpoint certs` makes both)", o.Listen)
	}
	s := &Server{
		o: o, requests: newBuckets(requestRate, requestBurst), streams: make(chan struct{}, maxStreams),
		patience: min(max(4*o.FailureTimeout, 2*time.Second), 15*time.Second),
	}
	s.refusals.log = o.Log
	s.closing, s.close = context.WithCancel(context.WithoutCancel(ctx))
	if o.Tokens == nil {
		s.hosts = map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true, host: true}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("cluster.api: %w", err)
	}
	l = &listener{
		Listener: l, slots: make(chan struct{}, maxConnections), rates: newBuckets(connectRate, connectBurst),
		refused: func(remote net.Addr, why string) { s.refusals.count(why, "remote", remote.String()) },
	}
	if o.TLS != nil {
		l = tls.NewListener(l, o.TLS)
	}
	s.listener = l
	return s, nil
}

// loopback reports whether a host can only be reached from this machine.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// URL returns where the server is reached.
func (s *Server) URL() string {
	scheme := "http://"
	if s.o.TLS != nil {
		scheme = "https://"
	}
	return scheme + s.listener.Addr().String()
}

// Run serves until ctx ends. Requests in flight then have a failure timeout to end; streams end at once.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(quiet{s.o.Log.Handler()}, slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return s.closing },
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.close()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.FailureTimeout)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(s.listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", s.URL(), err)
}

// quiet passes what net/http has to say about its clients (a handshake that failed, a connection that was cut) on as
// debug lines: a stranger must not fill the log.
type quiet struct{ slog.Handler }

// refusals counts who was turned away and why, and tells the log of it at most once a second for each reason.
type refusals struct {
	log *slog.Logger

	mu    sync.Mutex
	total map[string]int64
	told  map[string]time.Time
	sum   atomic.Int64
}

func (r *refusals) count(why string, attrs ...any) {
	r.sum.Add(1)
	r.mu.Lock()
	if r.total == nil {
		r.total, r.told = map[string]int64{}, map[string]time.Time{}
	}
	r.total[why]++
	n, now := r.total[why], time.Now()
	tell := now.Sub(r.told[why]) >= time.Second
	if tell {
		r.told[why] = now
	}
	r.mu.Unlock()
	if tell {
		r.log.Warn("api request refused", append([]any{"reason", why, "refused", n}, attrs...)...)
	}
}

// Refused returns how many connections and requests were turned away.
func (s *Server) Refused() int64 { return s.refusals.sum.Load() }
