package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// overview asks the leader for all runs and workers.
func (s *Server) overview(r *http.Request) (*coordinator.Overview, error) {
	reply, err := ask[wire.RunsReply](r.Context(), s, wire.RunsSubject, &wire.RunsRequest{})
	if err != nil {
		return nil, err
	}
	o := new(coordinator.Overview)
	if err := json.Unmarshal(reply.JSON, o); err != nil {
		return nil, fmt.Errorf("the leader's overview: %w", err)
	}
	return o, nil
}

func (s *Server) runs(w http.ResponseWriter, r *http.Request) error {
	o, err := s.overview(r)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, RunList{some(o.Runs)})
}

// some is a list that is written as [] when it is empty.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// find returns the run that a path names: by its id, its name, or the beginning of either, if only one begins so. Of
// several runs of one name the one that is not over is meant.
func (s *Server) find(r *http.Request) (*coordinator.RunSummary, error) {
	o, err := s.overview(r)
	if err != nil {
		return nil, err
	}
	return Find(o.Runs, r.PathValue("run"))
}

// Find returns the run that somebody means by a word. The error is a *Problem.
func Find(runs []coordinator.RunSummary, word string) (*coordinator.RunSummary, error) {
	if i := slices.IndexFunc(runs, func(r coordinator.RunSummary) bool { return r.ID == word }); i >= 0 {
		return &runs[i], nil
	}
	matches := func(is func(*coordinator.RunSummary) bool) (found []*coordinator.RunSummary) {
		for i := range runs {
			if is(&runs[i]) {
				found = append(found, &runs[i])
			}
		}
		if current := slices.DeleteFunc(slices.Clone(found), over); len(current) == 1 {
			return current
		}
		return found
	}
	found := matches(func(r *coordinator.RunSummary) bool { return r.Name == word })
	if len(found) == 0 && word != "" {
		found = matches(func(r *coordinator.RunSummary) bool {
			return strings.HasPrefix(r.ID, word) || strings.HasPrefix(r.Name, word)
		})
	}
	var ids, words []string
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		for i := range runs {
			ids, words = append(ids, runs[i].ID), append(words, runs[i].ID, runs[i].Name)
		}
		p := problem(UnknownRun, "no run is called %q", clip(word)).among(clip(word), words)
		switch p.Allowed = ids; {
		case len(ids) == 0:
			p.Detail += ": there is none yet"
		case p.Nearest == "" && !strings.Contains(p.Detail, "allowed"):
			p.Detail += fmt.Sprintf("; there are %d, which /v1/runs lists", len(ids))
		}
		return nil, p
	}
	for _, r := range found {
		ids = append(ids, r.ID)
	}
	p := problem(AmbiguousRun, "%q begins %d runs: %s", clip(word), len(ids), strings.Join(ids[:min(len(ids), 8)], ", "))
	p.Allowed = ids
	return nil, p
}

func over(r *coordinator.RunSummary) bool {
	return r.State == string(wire.Finished) || r.State == string(wire.Cancelled)
}

// clip bounds what a stranger wrote before it is said again.
func clip(word string) string {
	if len(word) > 100 {
		return strings.ToValidUTF8(word[:100], "") + "..."
	}
	return word
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) error {
	run, err := s.find(r)
	if err != nil {
		return err
	}
	reply, err := ask[wire.StatusReply](r.Context(), s, wire.StatusSubject, &wire.StatusRequest{Run: run.ID})
	if err != nil {
		return err
	}
	if reply.Err != "" {
		return problem(Refused, "%s", reply.Err)
	}
	return respondJSON(w, http.StatusOK, reply.JSON)
}

// submit takes a run file: YAML, or JSON with the file in it. The answer says which run it is; 202 that its data are
// still being read, and that the same request again will be told.
func (s *Server) submit(w http.ResponseWriter, r *http.Request) error {
	q, err := decodeSubmission(r)
	if err != nil {
		return err
	}
	until := time.Now().Add(20 * time.Second)
	for {
		reply, err := ask[wire.SubmitReply](r.Context(), s, wire.SubmitSubject, &wire.SubmitRequest{Key: q.Key, File: []byte(q.File), Priority: q.Priority})
		switch {
		case err != nil:
			return err
		case reply.Err != "":
			return problem(Refused, "%s", reply.Err)
		case !reply.Preparing:
			w.Header().Set("Location", "/v1/runs/"+escape(reply.Run))
			status := http.StatusCreated
			if reply.Existing {
				status = http.StatusOK
			}
			return respond(w, status, Receipt{Run: reply.Run, Existing: reply.Existing, Key: q.Key})
		case time.Now().After(until):
			w.Header().Set("Retry-After", "1")
			return respond(w, http.StatusAccepted, Receipt{Preparing: true, Key: q.Key})
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}

// media types of a run file.
var yamlTypes = []string{"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain"}

func decodeSubmission(r *http.Request) (*Submission, error) {
	b, media, err := body(r)
	if err != nil {
		return nil, err
	}
	q := &Submission{}
	switch {
	case media == "application/json":
		if err := decode(b, q); err != nil {
			return nil, err
		}
	case slices.Contains(yamlTypes, media):
		q.File = string(b)
	default:
		return nil, problem(MediaType, "Content-Type %.100q: application/yaml is a run file, application/json has it in the field file", media).
			among(media, []string{"application/yaml", "application/json"})
	}
	if v := r.URL.Query().Get("priority"); v != "" {
		var p priorityText
		if err := p.parse(v); err != nil {
			return nil, err
		}
		q.Priority = int(p)
	}
	if q.Priority > math.MaxInt32 || q.Priority < math.MinInt32 {
		return nil, problem(Malformed, "priority %d: %d to %d are allowed", q.Priority, math.MinInt32, math.MaxInt32)
	}
	if key := r.Header.Get(keyHeader); key != "" {
		if q.Key != "" && q.Key != key {
			return nil, problem(Malformed, "the header %s is %.70q, the field key %.70q; one is enough", keyHeader, key, q.Key)
		}
		q.Key = key
	}
	if q.Key == "" {
		q.Key = NewKey() // a client that cannot repeat itself
	}
	if err := wire.CheckName("key", q.Key); err != nil {
		return nil, problem(Malformed, "%v", err)
	}
	switch {
	case len(q.File) > MaxFile:
		return nil, problem(TooLarge, "the run file has %d bytes; %d are allowed", len(q.File), MaxFile)
	case strings.TrimSpace(q.File) == "":
		return nil, problem(Malformed, "the run file is empty; `counterpoint config example` writes one")
	case !utf8.ValidString(q.File) || strings.ContainsRune(q.File, 0):
		return nil, problem(Malformed, "the run file is not UTF-8 text")
	}
	return q, nil
}

type priorityText int

func (p *priorityText) parse(text string) error {
	var n json.Number
	if err := json.Unmarshal([]byte(text), &n); err == nil {
		if v, err := n.Int64(); err == nil && v >= math.MinInt32 && v <= math.MaxInt32 {
			*p = priorityText(v)
			return nil
		}
	}
	return problem(Malformed, "priority %.100q: a whole number from %d to %d is expected", text, math.MinInt32, math.MaxInt32)
}

// decode reads a JSON object strictly: an unknown field, a second value or another type is told by name.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		var wrong *json.UnmarshalTypeError
		fields := fieldsOf(v)
		switch name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
		case unknown:
			name = strings.Trim(name, `"`)
			return problem(Malformed, "the body has the unknown field %q", clip(name)).among(clip(name), fields)
		case errors.As(err, &wrong):
			return problem(Malformed, "the body's %s is %s; %s is expected", wrong.Field, wrong.Value, wrong.Type)
		case errors.Is(err, io.EOF):
			return problem(Malformed, "the body is empty; a JSON object with %s is expected", strings.Join(fields, ", "))
		}
		return problem(Malformed, "the body is not JSON: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return problem(Malformed, "the body goes on after its JSON object")
	}
	return nil
}

// action answers pause, resume and cancel.
func action(name string) func(*Server, http.ResponseWriter, *http.Request) error {
	return func(s *Server, w http.ResponseWriter, r *http.Request) error {
		b, media, err := body(r)
		if err != nil {
			return err
		}
		var why Reason
		if len(bytes.TrimSpace(b)) > 0 {
			if media != "application/json" {
				return problem(MediaType, "Content-Type %.100q: application/json is expected, or no body", media)
			}
			if err := decode(b, &why); err != nil {
				return err
			}
		}
		if len(why.Reason) > 1000 {
			return problem(TooLarge, "the reason has %d bytes; 1000 are allowed", len(why.Reason))
		}
		return s.steer(w, r, &wire.Control{Action: name, Reason: why.Reason})
	}
}

func (s *Server) priority(w http.ResponseWriter, r *http.Request) error {
	b, media, err := body(r)
	if err != nil {
		return err
	}
	if media != "application/json" {
		return problem(MediaType, "Content-Type %.100q: application/json is expected", media)
	}
	var q Priority
	if err := decode(b, &q); err != nil {
		return err
	}
	switch {
	case q.Priority == nil:
		return problem(Malformed, `the field priority is missing; {"priority": 5} is expected`)
	case *q.Priority > math.MaxInt32 || *q.Priority < math.MinInt32:
		return problem(Malformed, "priority %d: %d to %d are allowed", *q.Priority, math.MinInt32, math.MaxInt32)
	}
	return s.steer(w, r, &wire.Control{Action: wire.ActionPriority, Priority: *q.Priority})
}

func (s *Server) steer(w http.ResponseWriter, r *http.Request, q *wire.Control) error {
	run, err := s.find(r)
	if err != nil {
		return err
	}
	q.Run = run.ID
	reply, err := ask[wire.ControlReply](r.Context(), s, wire.ControlSubject, q)
	if err != nil {
		return err
	}
	if reply.Err != "" {
		return problem(Refused, "%s", reply.Err)
	}
	return respond(w, http.StatusOK, Steered{Run: run.ID, State: string(reply.State)})
}
