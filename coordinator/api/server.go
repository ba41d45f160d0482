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
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
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

	requestRate, requestBurst = 100, 400 // requests of an address, a second and at once
	badToken                  = 20       // requests that a wrong token costs
)

// Reasons for turning somebody away that only a web server has.
const (
	tooOften    credential.Reason = "too many requests of one address"
	manyStreams credential.Reason = "too many streams"
	otherHost   credential.Reason = "another host's name"
	otherOrigin credential.Reason = "a web page of another origin"
	noToken     credential.Reason = "no token"
)

// Options configure a Server.
type Options struct {
	Listen         string               // host:port; port 0 = any free one
	Conn           *bus.Conn            // to any of the coordinators' buses; the caller closes it, after Run
	Coordinator    string               // the name of this one
	Version        string               // of the binary
	FailureTimeout time.Duration        // how long an election may take derives from it; 0 = 1 s
	TLS            *credential.Source   // nil = plain HTTP
	Tokens         *credential.Bearers  // who may do what; nil = only certificates say it
	Insecure       bool                 // plain HTTP, and nobody asked who he is, outside loopback too
	Refusals       *credential.Refusals // counts who was turned away; nil = nobody counts
	Log            *slog.Logger         // nil = none
}

// open reports whether everybody who reaches the listener may do everything.
func (o *Options) open() bool { return o.TLS == nil && o.Tokens == nil }

// Server answers HTTP requests for one coordinator.
type Server struct {
	o        Options
	listener net.Listener
	requests *buckets
	streams  chan struct{}
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
	if err := credential.CheckListen("cluster.api", o.Listen, o.TLS != nil || o.Insecure); err != nil {
		return nil, err
	}
	s := &Server{
		o: o, requests: newBuckets(requestRate, requestBurst), streams: make(chan struct{}, maxStreams),
		patience: min(max(4*o.FailureTimeout, 2*time.Second), 15*time.Second),
	}
	s.closing, s.close = context.WithCancel(context.WithoutCancel(ctx))
	if o.open() && !o.Insecure {
		s.hosts = map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true, host: true}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("cluster.api: %w", err)
	}
	var secure *tls.Config
	if o.TLS != nil {
		secure = optional(o.TLS.ServerConfig(credential.Viewer, credential.Operator, credential.Coordinator))
	}
	s.listener = credential.NewListener(l, secure, credential.Limits{Total: maxConnections}, o.Refusals)
	return s, nil
}

// optional makes a certificate of the client's one that may be left out: a bearer token says who he is then. One that is
// shown must be good.
func optional(c *tls.Config) *tls.Config {
	inner := c.GetConfigForClient
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		k, err := inner(hello)
		if err != nil {
			return nil, err
		}
		check := k.VerifyConnection
		k.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return nil
			}
			return check(state)
		}
		return k, nil
	}
	return c
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
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug), // a stranger must not fill the log
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
