package api

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"unicode/utf8"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// Whatever a stranger submits is a submission within its bounds, or a problem that says why not.
func FuzzSubmission(f *testing.F) {
	f.Add("application/yaml", "name: x", "5", "k-1")
	f.Add("application/json", `{"file": "name: x", "priority": -3, "key": "k"}`, "", "")
	f.Add("application/json", `{"file": "x"} []`, "1e99", "a b")
	f.Add("text/plain; charset=", "\xff\x00", "-", "")
	f.Add("", "", "0x10", "..")
	f.Fuzz(func(t *testing.T, media, body, priority, key string) {
		r := httptest.NewRequest(http.MethodPost, "/v1/runs", bytes.NewReader([]byte(body)))
		r.Header.Set("Content-Type", media)
		r.Header.Set(keyHeader, key)
		q := r.URL.Query()
		q.Set("priority", priority)
		r.URL.RawQuery = q.Encode()
		s, err := decodeSubmission(r)
		if err != nil {
			known(t, err)
			return
		}
		if s.File == "" || !utf8.ValidString(s.File) || len(s.File) > MaxFile || wire.CheckName("key", s.Key) != nil || int(int32(s.Priority)) != s.Priority {
			t.Errorf("taken: %+v", s)
		}
	})
}

// Bodies of the other requests likewise.
func FuzzBody(f *testing.F) {
	for _, text := range []string{"", "{}", `{"reason": "x"}`, `{"priority": 3}`, `{"priority": null}`, `[1]`, `{"priority": 1e400}`, "{\"reason\": \"\xff\"}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, v := range []any{&Reason{}, &Priority{}, &Submission{}} {
			if err := decode(body, v); err != nil {
				known(t, err)
			}
		}
	})
}

// Nothing that a server streams breaks a client: it is lines, or an error.
func FuzzStream(f *testing.F) {
	f.Add([]byte("{\"id\":1}\n\n{\"id\":2}\n"))
	f.Add([]byte("{\"id\":\"x\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := NewClient(ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.http.Transport = answering(body)
		var last int64
		if err := c.Events(t.Context(), "r", 0, false, func(id int64, _ []byte) error {
			if id <= last {
				t.Errorf("event %d after %d", id, last)
			}
			last = id
			return nil
		}); err == nil && len(body) > maxLine && !bytes.Contains(body[:maxLine+1], []byte("\n")) {
			t.Error("a line beyond the bound was taken")
		}
		_ = c.Logs(t.Context(), "", 0, false, func(*LogLine) error { return nil })
	})
}

type answering []byte

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Request: r, Body: io.NopCloser(bytes.NewReader(a))}, nil
}

func known(t *testing.T, err error) {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) || problems[p.Code()].status != p.Status || p.Detail == "" {
		t.Errorf("%v is no problem with a detail", err)
	}
}
