package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
)

// DefaultServer is where `coordinator` serves when nothing else is said.
const DefaultServer = "http://127.0.0.1:8300"

// ClientOptions configure a Client.
type ClientOptions struct {
	Servers  []string      // http://host:port or https://...; "host:port" is http. None = DefaultServer
	Token    string        // bearer token; "" = none
	TLS      *tls.Config   // certificate authorities, and a certificate of one's own; nil = the system's
	Patience time.Duration // how long a fleet without a leader is asked again; 0 = 15 s
	Agent    string        // who asks, for logs
}

// Client asks a fleet. It tries each of its servers, and asks again while there is no leader: every request may be
// repeated. A Problem of the server is the error as it is.
type Client struct {
	o       ClientOptions
	http    *http.Client
	servers []*url.URL
	first   int // the server that answered last
}

// maxAnswer bounds an answer in bytes.
const maxAnswer = 64 << 20

// NewClient checks the options. Nothing is asked yet.
func NewClient(o ClientOptions) (*Client, error) {
	if len(o.Servers) == 0 {
		o.Servers = []string{DefaultServer}
	}
	if o.Patience == 0 {
		o.Patience = 15 * time.Second
	}
	c := &Client{o: o}
	for _, text := range o.Servers {
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		u, err := url.Parse(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("server %q: %w", text, err)
		case u.Scheme == "nats":
			return nil, fmt.Errorf("server %q: this is where workers join; the API is cluster.api, such as %s", text, DefaultServer)
		case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			return nil, fmt.Errorf("server %q: http://HOST:PORT or https://HOST:PORT is expected", text)
		case u.Scheme == "http" && o.Token != "" && !credential.Loopback(u.Hostname()):
			return nil, fmt.Errorf("server %q: a token is not sent over plain HTTP to another machine; use https", text)
		}
		c.servers = append(c.servers, u)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = o.TLS
	transport.ResponseHeaderTimeout = 2 * time.Minute
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

// NewKey returns a fresh idempotency key.
func NewKey() string { return rand.Text() }

// query is one request; it can be sent any number of times.
type query struct {
	method, path string
	values       url.Values
	body         []byte
	media        string
	headers      map[string]string
}

// do asks until somebody answers and returns the answer's body.
func (c *Client) do(ctx context.Context, q query) ([]byte, error) {
	resp, err := c.open(ctx, q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = fmt.Errorf("more than %d bytes", maxAnswer)
	}
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", resp.Request.URL.Host, err)
	}
	return bytes.TrimSuffix(b, []byte("\n")), nil
}

// open asks until somebody answers with success, and returns that answer.
func (c *Client) open(ctx context.Context, q query) (*http.Response, error) {
	began := time.Now()
	const unreachable = 2 * time.Second // there may be an election, but that nobody listens is told soon
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		var last error
		wait, listens := time.Duration(0), false
		for i := range c.servers {
			n := (c.first + i) % len(c.servers)
			resp, err := c.send(ctx, c.servers[n], q)
			if err == nil {
				c.first = n
				return resp, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			var p *Problem
			if errors.As(err, &p) {
				listens = true
				if p.Status != http.StatusServiceUnavailable && p.Status != http.StatusTooManyRequests && p.Status != http.StatusBadGateway {
					return nil, p
				}
				wait = time.Second
			}
			last = errors.Join(last, err)
		}
		patience := c.o.Patience
		if !listens {
			patience = min(patience, unreachable)
		}
		pause = max(pause, wait)
		if time.Since(began)+pause > patience {
			return nil, c.silence(last)
		}
		select {
		case <-time.After(pause/2 + mathrand.N(pause/2)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// UnreachableError says that no server listens.
type UnreachableError struct {
	Servers []string
	Err     error
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no coordinator answers at %s: %v", strings.Join(e.Servers, ", "), e.Err)
}

// Unwrap returns the newest cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// silence says in one line that no server answered.
func (c *Client) silence(err error) error {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var names []string
	for _, s := range c.servers {
		names = append(names, s.String())
	}
	var cause *url.Error
	if errors.As(err, &cause) {
		err = cause.Err
	}
	return &UnreachableError{names, err}
}

// send asks one server once. An answer that is not success is a *Problem.
func (c *Client) send(ctx context.Context, server *url.URL, q query) (*http.Response, error) {
	u := server.JoinPath(q.path)
	u.RawQuery = q.values.Encode()
	r, err := http.NewRequestWithContext(ctx, q.method, u.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	for name, value := range q.headers {
		r.Header.Set(name, value)
	}
	if q.media != "" {
		r.Header.Set("Content-Type", q.media)
	}
	if c.o.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	if c.o.Agent != "" {
		r.Header.Set("User-Agent", c.o.Agent)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	p := new(Problem)
	if json.Unmarshal(b, p) != nil || p.Status != resp.StatusCode {
		// Something between us and the fleet answered, or no coordinator at all.
		p = &Problem{Status: resp.StatusCode, Title: resp.Status, Detail: fmt.Sprintf("%s answered %s, not as a coordinator does: %.100q", server.Host, resp.Status, b)}
	}
	return nil, p
}

func (c *Client) get(ctx context.Context, path string, values url.Values) ([]byte, error) {
	return c.do(ctx, query{method: http.MethodGet, path: path, values: values})
}

// escape is one segment of a path. No run is called . or .., and the path would be another one.
func escape(segment string) string {
	if segment == "" || segment == "." || segment == ".." {
		segment = "(" + segment + ")"
	}
	return url.PathEscape(segment)
}

// Submit hands a run file in and returns what became of it as JSON, a Receipt. The same key again is the same run.
func (c *Client) Submit(ctx context.Context, file []byte, priority int, key string) ([]byte, error) {
	values := url.Values{}
	if priority != 0 {
		values.Set("priority", strconv.Itoa(priority))
	}
	return c.do(ctx, query{
		method: http.MethodPost, path: "/v1/runs", values: values, body: file, media: "application/yaml",
		headers: map[string]string{keyHeader: key},
	})
}

// Runs returns all runs as JSON, a RunList.
func (c *Client) Runs(ctx context.Context) ([]byte, error) { return c.get(ctx, "/v1/runs", nil) }

// Run returns one run as JSON, a coordinator.Status. It is named by its id, its name, or the beginning of either.
func (c *Client) Run(ctx context.Context, run string) ([]byte, error) {
	return c.get(ctx, "/v1/runs/"+escape(run), nil)
}

// Workers returns the workers as JSON, a WorkerList.
func (c *Client) Workers(ctx context.Context) ([]byte, error) { return c.get(ctx, "/v1/workers", nil) }

// Cluster returns coordinators, runs and workers as JSON, a Cluster.
func (c *Client) Cluster(ctx context.Context) ([]byte, error) { return c.get(ctx, "/v1/cluster", nil) }

// Version returns the version of the coordinator that answers as JSON, a Version.
func (c *Client) Version(ctx context.Context) ([]byte, error) { return c.get(ctx, "/version", nil) }

// Control does pause, resume or cancel to a run and returns its state as JSON, a Steered.
func (c *Client) Control(ctx context.Context, run, action, reason string) ([]byte, error) {
	b, err := json.Marshal(Reason{reason})
	if err != nil {
		return nil, err
	}
	return c.do(ctx, query{method: http.MethodPost, path: "/v1/runs/" + escape(run) + "/" + escape(action), body: b, media: "application/json"})
}

// Prioritize sets a run's priority and returns its state as JSON, a Steered.
func (c *Client) Prioritize(ctx context.Context, run string, priority int) ([]byte, error) {
	if priority > math.MaxInt32 || priority < math.MinInt32 {
		return nil, fmt.Errorf("priority %d: %d to %d are allowed", priority, math.MinInt32, math.MaxInt32)
	}
	b, err := json.Marshal(Priority{&priority})
	if err != nil {
		return nil, err
	}
	return c.do(ctx, query{method: http.MethodPut, path: "/v1/runs/" + escape(run) + "/priority", body: b, media: "application/json"})
}
