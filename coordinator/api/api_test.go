package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus/membus"
)

var fourRuns = []coordinator.RunSummary{
	{ID: "debian-0a1b2c3d", Name: "debian", State: "running"},
	{ID: "debian-ffff0000", Name: "debian", State: "finished"},
	{ID: "wiki-12345678", Name: "wiki", State: "paused"},
	{ID: "wiki-large-9999aaaa", Name: "wiki-large", State: "queued"},
}

func TestFind(t *testing.T) {
	for _, c := range []struct{ word, want, code, says string }{
		{"debian-ffff0000", "debian-ffff0000", "", ""},
		{"debian", "debian-0a1b2c3d", "", ""}, // the one that is not over
		{"deb", "debian-0a1b2c3d", "", ""},
		{"debian-f", "debian-ffff0000", "", ""},
		{"wiki", "wiki-12345678", "", ""}, // a name, although it begins another
		{"wiki-", "", AmbiguousRun, "wiki-12345678, wiki-large-9999aaaa"},
		{"debain", "", UnknownRun, "did you mean debian?"},
		{"zzz", "", UnknownRun, "debian-0a1b2c3d"},
		{"", "", UnknownRun, `no run is called ""`},
		{strings.Repeat("x", 5000), "", UnknownRun, "x..."},
	} {
		r, err := Find(fourRuns, c.word)
		switch {
		case c.code == "" && (err != nil || r.ID != c.want):
			t.Errorf("Find(%.20q) = %v, %v, want %s", c.word, r, err, c.want)
		case c.code != "" && (!HasCode(err, c.code) || !strings.Contains(err.Error(), c.says)):
			t.Errorf("Find(%.20q) = %v, want %s with %q", c.word, err, c.code, c.says)
		}
	}
}

// Every wrong request has an answer that says what is wrong, and reaches nobody.
func TestProblems(t *testing.T) {
	b := membus.New(1, time.Millisecond)
	l := newLeader(t, b, fourRuns...)
	s := open(t, b, nil)
	const yaml, jsonType = "application/yaml", "application/json"
	for _, c := range []struct {
		method, path, media, body string
		headers                   []string
		code, says                string
	}{
		{"GET", "/v1/run", "", "", nil, NotFound, "/v1/runs"},
		{"GET", "/", "", "", nil, NotFound, "/v1/openapi.json"},
		{"DELETE", "/v1/runs", "", "", nil, MethodNotAllowed, "POST, GET"},
		{"GET", "/v1/runs/debian/pause", "", "", nil, MethodNotAllowed, "POST"},
		{"GET", "/v1/runs?stat=x", "", "", nil, Malformed, `"stat"`},
		{"GET", "/v1/runs/debian/events?afte=1", "", "", nil, Malformed, "did you mean after?"},
		{"GET", "/v1/runs/debian/events?after=x", "", "", nil, Malformed, "a number"},
		{"GET", "/v1/runs/debian/events", "", "", []string{"Last-Event-ID", "-1"}, Malformed, "Last-Event-ID"},
		{"GET", "/v1/logs?follow=perhaps", "", "", nil, Malformed, "1 or 0"},
		{"GET", "/v1/runs/debain", "", "", nil, UnknownRun, "did you mean debian?"},
		{"GET", "/v1/runs/..%2f..%2fetc", "", "", nil, UnknownRun, "no run is called"},
		{"POST", "/v1/runs/wiki-/pause", "", "", nil, AmbiguousRun, "wiki-large-9999aaaa"},
		{"POST", "/v1/runs", "", "name: x", nil, MediaType, yaml},
		{"POST", "/v1/runs", "image/png", "name: x", nil, MediaType, yaml},
		{"POST", "/v1/runs", yaml, " \n", nil, Malformed, "empty"},
		{"POST", "/v1/runs", yaml, "name: \xff", nil, Malformed, "UTF-8"},
		{"POST", "/v1/runs", yaml, strings.Repeat("#", MaxFile+1), nil, TooLarge, fmt.Sprint(MaxFile)},
		{"POST", "/v1/runs", yaml, strings.Repeat("#", 2*MaxFile), nil, TooLarge, "bytes"},
		{"POST", "/v1/runs?priority=high", yaml, "name: x", nil, Malformed, "whole number"},
		{"POST", "/v1/runs?priority=1e30", yaml, "name: x", nil, Malformed, "whole number"},
		{"POST", "/v1/runs", yaml, "name: x", []string{"Idempotency-Key", "a b"}, Malformed, "key"},
		{"POST", "/v1/runs", yaml, "name: refuse me", nil, Refused, "run.yaml:1:1"},
		{"POST", "/v1/runs", jsonType, `{"fil": "name: x"}`, nil, Malformed, "did you mean file?"},
		{"POST", "/v1/runs", jsonType, `{"file": 3}`, nil, Malformed, "string is expected"},
		{"POST", "/v1/runs", jsonType, `{"file": "x"} {}`, nil, Malformed, "goes on"},
		{"POST", "/v1/runs", jsonType, `{"file": "x", "key": "a"}`, []string{"Idempotency-Key", "b"}, Malformed, "one is enough"},
		{"POST", "/v1/runs", jsonType, ``, nil, Malformed, "empty"},
		{"POST", "/v1/runs", jsonType, `{"file": "x", "priority": 3000000000}`, nil, Malformed, "priority"},
		{"POST", "/v1/runs/debian/pause", jsonType, `{"why": "x"}`, nil, Malformed, "allowed: reason"},
		{"POST", "/v1/runs/debian/pause", "text/plain", `x`, nil, MediaType, jsonType},
		{"POST", "/v1/runs/debian/pause", jsonType, `{"reason": "refuse me"}`, nil, Refused, "the run is over"},
		{"POST", "/v1/runs/debian/pause", jsonType, `{"reason": "` + strings.Repeat("x", 2000) + `"}`, nil, TooLarge, "1000"},
		{"POST", "/v1/runs/debian/pause", jsonType, strings.Repeat(" ", maxBody+1), nil, TooLarge, "bytes"},
		{"PUT", "/v1/runs/debian/priority", jsonType, `{}`, nil, Malformed, "missing"},
		{"PUT", "/v1/runs/debian/priority", jsonType, `{"priority": 1.5}`, nil, Malformed, "priority"},
		{"POST", "/v1/runs/debian/cancel", "", "", []string{"Origin", "https://evil.example"}, Forbidden, "other origins"},
		{"POST", "/v1/runs/debian/cancel", "", "", []string{"Sec-Fetch-Site", "cross-site"}, Forbidden, "other origins"},
		{"GET", "/v1/runs", "", "", []string{"Host", "evil.example:8300"}, Forbidden, "evil.example"},
	} {
		status, body, header := send(t, c.method, s.URL()+c.path, c.media, c.body, c.headers...)
		var p Problem
		if err := json.Unmarshal(body, &p); err != nil || header.Get("Content-Type") != ProblemType {
			t.Errorf("%s %s: %d %s %.200s, want a problem", c.method, c.path, status, header.Get("Content-Type"), body)
			continue
		}
		if p.Code() != c.code || status != p.Status || status != problems[c.code].status || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s %s = %d %s: %s, want %s with %q", c.method, c.path, status, p.Code(), p.Detail, c.code, c.says)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.asked {
		if q.Reason != "refuse me" {
			t.Errorf("the leader was asked %+v", q)
		}
	}
	if len(l.files) != 0 {
		t.Errorf("the leader took %q", l.files)
	}
}

// A submission is told twice what it became, whatever the second one says, and a client waits while data are read.
func TestSubmit(t *testing.T) {
	b := membus.New(1, time.Millisecond)
	l := newLeader(t, b)
	s := open(t, b, nil)
	l.prepare = 2
	status, body, header := send(t, "POST", s.URL()+"/v1/runs?priority=7", "application/yaml", "name: x\n", "Idempotency-Key", "k1")
	var r Receipt
	if err := json.Unmarshal(body, &r); err != nil || status != http.StatusCreated || r.Run != "new-1" || header.Get("Location") != "/v1/runs/new-1" {
		t.Fatalf("submit = %d %s, want 201 new-1", status, body)
	}
	status, body, _ = send(t, "POST", s.URL()+"/v1/runs", "application/json", `{"file": "name: y", "key": "k1"}`)
	if err := json.Unmarshal(body, &r); err != nil || status != http.StatusOK || r.Run != "new-1" || !r.Existing {
		t.Errorf("the same key again = %d %s, want 200 new-1", status, body)
	}
	status, body, _ = send(t, "POST", s.URL()+"/v1/runs", "text/plain; charset=utf-8", "name: y")
	if status != http.StatusCreated {
		t.Errorf("another = %d %s, want 201", status, body)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := []string{string(l.files[0]), string(l.files[1])}; !slices.Equal(got, []string{"name: x\n", "name: y"}) || len(l.files) != 2 {
		t.Errorf("the leader has %q", l.files)
	}
	if l.overview.Runs[0].Priority != 7 {
		t.Errorf("priority %d, want 7", l.overview.Runs[0].Priority)
	}
}

func TestSteer(t *testing.T) {
	b := membus.New(1, time.Millisecond)
	l := newLeader(t, b, fourRuns...)
	s := open(t, b, nil)
	c := client(t, "http://127.0.0.1:1", s.URL()) // the first one is dead
	for range 2 {
		if got, err := c.Control(t.Context(), "deb", "pause", "lunch"); err != nil || string(got) != `{"run":"debian-0a1b2c3d","state":"stopping"}` {
			t.Errorf("pause = %s, %v", got, err)
		}
	}
	if _, err := c.Prioritize(t.Context(), "wiki", -3); err != nil {
		t.Error(err)
	}
	if _, err := c.Control(t.Context(), "..", "cancel", ""); !HasCode(err, UnknownRun) {
		t.Errorf("cancel of .. = %v, want %s", err, UnknownRun)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	want := []wire.Control{
		{Run: "debian-0a1b2c3d", Action: "pause", Reason: "lunch"},
		{Run: "debian-0a1b2c3d", Action: "pause", Reason: "lunch"},
		{Run: "wiki-12345678", Action: "priority", Priority: -3},
	}
	if !slices.Equal(l.asked, want) {
		t.Errorf("the leader was asked %+v, want %+v", l.asked, want)
	}
}

// While nobody leads a request waits, and is answered by the next leader; a long silence is 503 with Retry-After.
func TestElection(t *testing.T) {
	b := membus.New(1, time.Millisecond)
	s := open(t, b, nil)
	began := time.Now()
	status, body, header := send(t, "GET", s.URL()+"/v1/runs", "", "")
	var p Problem
	if err := json.Unmarshal(body, &p); err != nil || status != http.StatusServiceUnavailable || p.Code() != NoLeader || header.Get("Retry-After") == "" {
		t.Errorf("without a leader = %d %s, want 503 %s with Retry-After", status, body, NoLeader)
	}
	if d := time.Since(began); d < s.patience/2 || d > 3*s.patience {
		t.Errorf("answered after %v, want about %v", d, s.patience)
	}
	if status, _, _ := send(t, "GET", s.URL()+"/readyz", "", ""); status != http.StatusServiceUnavailable {
		t.Errorf("readyz without a leader = %d, want 503", status)
	}
	if status, _, _ := send(t, "GET", s.URL()+"/healthz", "", ""); status != http.StatusOK {
		t.Errorf("healthz without a leader = %d, want 200", status)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := client(t, s.URL()).Runs(t.Context())
		answered <- err
	}()
	time.Sleep(50 * time.Millisecond)
	newLeader(t, b, fourRuns...)
	if err := <-answered; err != nil {
		t.Errorf("a request across an election = %v", err)
	}
	if status, body, _ := send(t, "GET", s.URL()+"/readyz", "", ""); status != http.StatusOK {
		t.Errorf("readyz = %d %s, want 200", status, body)
	}
}

var errEnough = errors.New("enough")

// Events come in order, once, over a leader that is lost and a connection that is cut.
func TestEvents(t *testing.T) {
	b := membus.New(1, time.Millisecond)
	l := newLeader(t, b, fourRuns...)
	s := open(t, b, nil)
	const run = "wiki-12345678"
	for id := range int64(10) {
		l.happen(t, run, 1<<32|(id+1))
		l.happen(t, "debian-0a1b2c3d", 1<<32|(id+100))
	}
	c := client(t, s.URL())
	var got []int64
	if err := c.Events(t.Context(), "wiki", 1<<32|4, false, func(id int64, _ []byte) error {
		got = append(got, id&0xffffffff)
		return nil
	}); err != nil || !slices.Equal(got, []int64{5, 6, 7, 8, 9, 10}) {
		t.Errorf("Events(after 4) = %v, %v", got, err)
	}

	got = nil
	err := c.Events(t.Context(), "wiki", 0, true, func(id int64, event []byte) error {
		var e coordinator.Event
		if err := json.Unmarshal(event, &e); err != nil || e.Run != run {
			t.Errorf("event %s, %v", event, err)
		}
		switch got = append(got, id&0xffffffff); len(got) {
		case 10: // the leader dies; the next one has what it heard, and goes on
			l.die()
			next := newLeader(t, b, fourRuns...)
			l.mu.Lock()
			next.events = slices.Clone(l.events)
			l.mu.Unlock()
			l = next
			go l.happen(t, run, 2<<32|11)
		case 11: // the API server is cut off from under the stream
			s.o.Log.Info("cut")
			go l.happen(t, run, 2<<32|12)
		case 12:
			return errEnough
		}
		return nil
	})
	if want := []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}; !errors.Is(err, errEnough) || !slices.Equal(got, want) {
		t.Errorf("followed %v, %v, want %v", got, err, want)
	}
}

// The form that browsers read has ids, and goes on after the last one.
func TestServerSentEvents(t *testing.T) {
	b := membus.New(1, time.Millisecond)
	l := newLeader(t, b, fourRuns...)
	s := open(t, b, nil)
	l.happen(t, "wiki-12345678", 7)
	l.happen(t, "wiki-12345678", 8)
	_, body, header := send(t, "GET", s.URL()+"/v1/runs/wiki/events?follow=0", "", "", "Accept", "text/event-stream", "Last-Event-ID", "7")
	if got := string(body); !strings.HasPrefix(got, "id: 8\nevent: step\ndata: {") || !strings.HasSuffix(got, "\n\n") || header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("server-sent events = %q", got)
	}
}

func TestLogs(t *testing.T) {
	b := membus.New(1, time.Millisecond)
	l := newLeader(t, b, fourRuns...)
	s := open(t, b, nil)
	at := time.Unix(1_800_000_000, 0).UTC()
	line := func(run, text string) wire.Log {
		at = at.Add(time.Millisecond)
		return wire.Log{Time: at, Run: run, Source: "w", Level: "INFO", Text: text}
	}
	l.lines = []wire.Log{line("wiki-12345678", "one"), line("debian-0a1b2c3d", "other"), line("", "two")}
	var got []string
	keep := func(l *LogLine) error {
		if got = append(got, l.Text); l.Text == "last" {
			return errEnough
		}
		return nil
	}
	c := client(t, s.URL())
	if err := c.Logs(t.Context(), "wiki", 0, false, keep); err != nil || !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("Logs(wiki) = %q, %v", got, err)
	}
	got = nil
	if err := c.Logs(t.Context(), "", 2, false, keep); err != nil || !slices.Equal(got, []string{"other", "two"}) {
		t.Errorf("Logs of the fleet, 2 lines = %q, %v", got, err)
	}
	got = nil
	more := line("wiki-12345678", "last")
	err := c.Logs(t.Context(), "wiki", 0, true, func(q *LogLine) error {
		if q.Text == "two" { // published twice, and heard while the newest are asked for: told once
			for _, m := range []wire.Log{l.lines[2], line("debian-0a1b2c3d", "not this"), more} {
				if err := l.conn.Publish(wire.LogSubject, &m); err != nil {
					t.Error(err)
				}
			}
		}
		return keep(q)
	})
	if !errors.Is(err, errEnough) || !slices.Equal(got, []string{"one", "two", "last"}) {
		t.Errorf("followed %q, %v", got, err)
	}
}

// Too many requests are turned away before anything is looked at, and counted.
func TestRate(t *testing.T) {
	now := time.Unix(0, 0)
	k := newBuckets(10, 5)
	k.now = func() time.Time { return now }
	k.most = 3
	a := address("10.0.0.1:5")
	for i := range 7 {
		if got := k.take(a, 1); got != (i < 5) {
			t.Errorf("request %d: %v", i, got)
		}
	}
	now = now.Add(200 * time.Millisecond)
	for i := range 3 {
		if got := k.take(a, 1); got != (i < 2) {
			t.Errorf("request %d after 200 ms: %v", i, got)
		}
	}
	for i := range 100 { // strangers with many addresses share one bucket and leave the others alone
		k.take(address(fmt.Sprintf("10.0.1.%d:1", i)), 1)
	}
	if len(k.all) > k.most+1 {
		t.Errorf("%d buckets, want at most %d", len(k.all), k.most+1)
	}
	if got, want := address("[2001:db8::1]:80"), address("[2001:db8::ffff]:80"); got != want {
		t.Errorf("%v and %v are of one /64", got, want)
	}

	refusals := &credential.Refusals{}
	b := membus.New(1, time.Millisecond)
	newLeader(t, b)
	s := open(t, b, func(o *Options) { o.Refusals = refusals })
	s.requests.burst = 3
	var last int
	for range 5 {
		last, _, _ = send(t, "GET", s.URL()+"/healthz", "", "")
	}
	if last != http.StatusTooManyRequests || refusals.Counts()[string(tooOften)] == 0 {
		t.Errorf("the fifth request = %d, refused %v, want 429 and a count", last, refusals.Counts())
	}
}
