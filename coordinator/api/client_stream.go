package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxLine bounds one line of a stream in bytes.
const maxLine = 1 << 20

// lines opens a stream and calls f with each line, until it ends, f fails, or the server is silent for too long.
func (c *Client) lines(ctx context.Context, q query, f func(line []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.open(ctx, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	watch := time.AfterFunc(3*alive, cancel)
	defer watch.Stop()
	scanner := bufio.NewScanner(resp.Body)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		watch.Reset(3 * alive)
		if line := bytes.TrimSpace(scanner.Bytes()); len(line) > 0 {
			if err := f(line); err != nil {
				return &stopped{err}
			}
		}
	}
	return scanner.Err()
}

// stopped carries an error of the one who reads, apart from those of the connection.
type stopped struct{ err error }

func (s *stopped) Error() string { return s.err.Error() }
func (s *stopped) Unwrap() error { return s.err }

// follow opens a stream again whenever it breaks, until the reader has enough or nobody answers any more.
func (c *Client) follow(ctx context.Context, q func() query, f func(line []byte) error) error {
	const patience = time.Minute // for coordinators that are started again, once they have answered
	var heard time.Time
	for {
		err := c.lines(ctx, q(), func(line []byte) error {
			heard = time.Now()
			return f(line)
		})
		var stop *stopped
		var p *Problem
		switch {
		case errors.As(err, &stop):
			return stop.err
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &p) && (p.Code() != NoLeader || time.Since(heard) > patience):
			return err
		case errors.As(err, new(*UnreachableError)) && time.Since(heard) > patience:
			return err
		case errors.Is(err, bufio.ErrTooLong):
			return fmt.Errorf("a line of more than %d bytes: %w", maxLine, err)
		}
		select { // the server ended it, or it broke: go on where it was
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Events calls f with the id and the JSON of each event of a run (a coordinator.Event) after an id, 0 for all that are
// kept. With follow it goes on, over leaders and connections that are lost, until ctx ends or f returns an error.
func (c *Client) Events(ctx context.Context, run string, after int64, follow bool, f func(id int64, event []byte) error) error {
	q := func() query {
		return query{
			method: http.MethodGet, path: "/v1/runs/" + escape(run) + "/events",
			values: url.Values{"after": {strconv.FormatInt(after, 10)}, "follow": {strconv.FormatBool(follow)}},
		}
	}
	line := func(line []byte) error {
		var e struct {
			ID int64 `json:"id"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("event: %w", err)
		}
		if e.ID <= after { // told before the connection was lost
			return nil
		}
		after = e.ID
		return f(e.ID, line)
	}
	if follow {
		return c.follow(ctx, q, line)
	}
	return c.once(ctx, q(), line)
}

// Logs calls f with the newest n lines (0: all that are kept) of a run, or of the whole fleet if run is "", oldest
// first. With follow it goes on with new ones until ctx ends or f returns an error.
func (c *Client) Logs(ctx context.Context, run string, n int, follow bool, f func(line *LogLine) error) error {
	path := "/v1/logs"
	if run != "" {
		path = "/v1/runs/" + escape(run) + "/logs"
	}
	seen := newRecent(4096)
	q := func() query {
		q := query{method: http.MethodGet, path: path, values: url.Values{"lines": {strconv.Itoa(n)}, "follow": {strconv.FormatBool(follow)}}}
		n = 1000 // after a break: more than were missed, and those seen are left out
		return q
	}
	line := func(line []byte) error {
		if follow && seen.before(line) {
			return nil
		}
		l := new(LogLine)
		if err := json.Unmarshal(line, l); err != nil {
			return fmt.Errorf("log line: %w", err)
		}
		return f(l)
	}
	if follow {
		return c.follow(ctx, q, line)
	}
	return c.once(ctx, q(), line)
}

func (c *Client) once(ctx context.Context, q query, line func([]byte) error) error {
	err := c.lines(ctx, q, line)
	var stop *stopped
	if errors.As(err, &stop) {
		return stop.err
	}
	return err
}

// recent remembers the newest lines, by hash.
type recent struct {
	seed maphash.Seed
	ring []uint64
	set  map[uint64]int
	next int
}

func newRecent(n int) *recent {
	return &recent{seed: maphash.MakeSeed(), ring: make([]uint64, 0, n), set: map[uint64]int{}}
}

// before reports whether a line was seen before, and remembers it.
func (r *recent) before(line []byte) bool {
	h := maphash.Bytes(r.seed, line)
	if r.set[h] > 0 {
		return true
	}
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, h)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = h
		r.next = (r.next + 1) % len(r.ring)
	}
	r.set[h] = 1
	return false
}
