package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// ProblemType is the media type of every error, RFC 9457.
const ProblemType = "application/problem+json"

// Problem is how every error is told. Its Detail is a whole sentence for people, which says what was found, what is
// allowed and the nearest word; the fields after it say the same to programs.
type Problem struct {
	Type    string   `json:"type"`              // urn:counterpoint:CODE
	Title   string   `json:"title"`             // of the code, always the same
	Status  int      `json:"status"`            // the HTTP status
	Detail  string   `json:"detail"`            // what is wrong with this request
	Allowed []string `json:"allowed,omitempty"` // what could have stood there
	Nearest string   `json:"nearest,omitempty"` // the allowed word that is closest to what was found
}

// Codes of problems.
const (
	NotFound         = "not-found"
	UnknownRun       = "unknown-run"
	AmbiguousRun     = "ambiguous-run"
	MethodNotAllowed = "method-not-allowed"
	Malformed        = "malformed"
	Refused          = "refused" // the leader's answer is no
	TooLarge         = "too-large"
	MediaType        = "media-type"
	TooMany          = "too-many-requests"
	Unauthorized     = "unauthorized"
	Forbidden        = "forbidden"
	NoLeader         = "no-leader"
	NotYet           = "not-yet" // the same request, sent again, will be answered
	Internal         = "internal"
)

var problems = map[string]struct {
	status int
	title  string
}{
	NotFound:         {http.StatusNotFound, "there is nothing at this path"},
	UnknownRun:       {http.StatusNotFound, "there is no such run"},
	AmbiguousRun:     {http.StatusConflict, "several runs are meant"},
	MethodNotAllowed: {http.StatusMethodNotAllowed, "the path does not take this method"},
	Malformed:        {http.StatusBadRequest, "the request cannot be read"},
	Refused:          {http.StatusConflict, "the fleet refuses"},
	TooLarge:         {http.StatusRequestEntityTooLarge, "the body is too large"},
	MediaType:        {http.StatusUnsupportedMediaType, "the body's type is not read here"},
	TooMany:          {http.StatusTooManyRequests, "too many requests"},
	Unauthorized:     {http.StatusUnauthorized, "a token is needed"},
	Forbidden:        {http.StatusForbidden, "the token does not allow this"},
	NoLeader:         {http.StatusServiceUnavailable, "no coordinator leads now"},
	NotYet:           {http.StatusServiceUnavailable, "the answer is being made"},
	Internal:         {http.StatusInternalServerError, "a mistake in the coordinator"},
}

// problem makes a Problem of a code.
func problem(code, format string, args ...any) *Problem {
	p := problems[code]
	return &Problem{Type: "urn:counterpoint:" + code, Title: p.title, Status: p.status, Detail: fmt.Sprintf(format, args...)}
}

// among adds what is allowed, and the nearest of it to what was found, to the fields and to the detail.
func (p *Problem) among(found string, allowed []string) *Problem {
	p.Allowed, p.Nearest = allowed, spelling.Nearest(found, allowed)
	switch {
	case p.Nearest != "":
		p.Detail += fmt.Sprintf("; did you mean %s?", p.Nearest)
	case len(allowed) > 0 && len(allowed) <= 8:
		p.Detail += "; allowed: " + strings.Join(allowed, ", ")
	}
	return p
}

// Code is the last part of Type.
func (p *Problem) Code() string { return strings.TrimPrefix(p.Type, "urn:counterpoint:") }

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return fmt.Sprintf("%d %s", p.Status, p.Title)
}

// Is makes errors.Is(err, &Problem{Type: ...}) compare codes.
func (p *Problem) Is(target error) bool {
	other, ok := target.(*Problem) //nolint:errorlint // errors.Is unwraps
	return ok && other.Type == p.Type
}

// HasCode reports whether an error is, or wraps, a problem of that code.
func HasCode(err error, code string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Code() == code
}

// write answers a request with the problem.
func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", ProblemType)
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		h.Set("Retry-After", "1")
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="counterpoint"`)
	}
	w.WriteHeader(p.Status)
	b, err := json.Marshal(p)
	if err != nil {
		return // strings and an integer: it cannot be
	}
	_, _ = w.Write(append(b, '\n')) // a client that is gone needs no answer
}
