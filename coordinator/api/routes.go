package api

import (
	"net/http"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
)

// route is one operation: how it is answered, and what the OpenAPI document says of it. The document is made from this
// table and from the types in it, and a test tells when the committed one is another.
type route struct {
	name   string // operationId
	method string
	path   string
	role   credential.Role // "" = anybody
	handle func(*Server, http.ResponseWriter, *http.Request) error

	summary string
	query   []parameter
	headers []parameter // of the request
	body    any         // its type; nil = none
	file    bool        // the body may be a run file instead
	lax     bool        // the body may be left out
	stream  bool        // it answers until the client has enough: lines of JSON, or server-sent events
	answers map[int]any // type by status
	codes   []string    // of the problems that are its own
}

type parameter struct{ name, kind, text string }

var (
	following  = parameter{"follow", "boolean", "1: go on with what happens from now on, until the client closes the connection"}
	steering   = []string{UnknownRun, AmbiguousRun, Refused, Malformed, TooLarge, MediaType}
	urgency    = parameter{"priority", "integer", "a run of higher priority gets workers first; default 0"}
	idempotent = parameter{keyHeader, "string", "1 to 64 letters, digits, '-' and '_'; the same key again is the same run, whatever the body says"}
)

var routes []route

func init() { // not a literal: the document's handler looks at the table
	routes = []route{
		{
			name: "submitRun", method: "POST", path: "/v1/runs", role: credential.Operator, handle: (*Server).submit,
			summary: "Hand a run in: its file as YAML, or as JSON. It is queued until workers that it matches are free.",
			query:   []parameter{urgency}, headers: []parameter{idempotent}, body: Submission{}, file: true,
			answers: map[int]any{200: Receipt{}, 201: Receipt{}, 202: Receipt{}},
			codes:   []string{Malformed, Refused, TooLarge, MediaType},
		},
		{
			name: "listRuns", method: "GET", path: "/v1/runs", role: credential.Viewer, handle: (*Server).runs,
			summary: "All runs, in the order of submission.", answers: map[int]any{200: RunList{}},
		},
		{
			name: "getRun", method: "GET", path: "/v1/runs/{run}", role: credential.Viewer, handle: (*Server).run,
			summary: "What a run is doing: state, workers, checkpoints, evaluations, recoveries.",
			answers: map[int]any{200: coordinator.Status{}}, codes: []string{UnknownRun, AmbiguousRun},
		},
		{
			name: "pauseRun", method: "POST", path: "/v1/runs/{run}/pause", role: credential.Operator, handle: action("pause"),
			summary: "Finish the step in flight, write a checkpoint and free the workers.",
			body:    Reason{}, lax: true, answers: map[int]any{200: Steered{}}, codes: steering,
		},
		{
			name: "resumeRun", method: "POST", path: "/v1/runs/{run}/resume", role: credential.Operator, handle: action("resume"),
			summary: "Let a paused or failed run go on, exactly where it was.",
			body:    Reason{}, lax: true, answers: map[int]any{200: Steered{}}, codes: steering,
		},
		{
			name: "cancelRun", method: "POST", path: "/v1/runs/{run}/cancel", role: credential.Operator, handle: action("cancel"),
			summary: "End a run for good. Its checkpoints stay.",
			body:    Reason{}, lax: true, answers: map[int]any{200: Steered{}}, codes: steering,
		},
		{
			name: "setPriority", method: "PUT", path: "/v1/runs/{run}/priority", role: credential.Operator, handle: (*Server).priority,
			summary: "Set a run's priority; a higher one takes workers at the next round.",
			body:    Priority{}, answers: map[int]any{200: Steered{}}, codes: steering,
		},
		{
			name: "getEvents", method: "GET", path: "/v1/runs/{run}/events", role: credential.Viewer, handle: (*Server).events,
			summary: "What happened to a run, oldest first. Ids rise strictly, across leaders: a client that lost its connection goes on after the last one it has.",
			query: []parameter{
				{"after", "integer", "only events with a larger id; 0 = all that are kept"},
				following,
				{"limit", "integer", "at most so many; 0 = all"},
			},
			headers: []parameter{{"Last-Event-ID", "integer", "as after; what an EventSource sends when it connects again"}},
			stream:  true, answers: map[int]any{200: coordinator.Event{}}, codes: []string{UnknownRun, AmbiguousRun, Malformed},
		},
		{
			name: "getRunLogs", method: "GET", path: "/v1/runs/{run}/logs", role: credential.Viewer, handle: (*Server).logs,
			summary: "The newest log lines about a run, of coordinators and workers, and those about no run in particular.",
			query:   []parameter{lines, following}, stream: true, answers: map[int]any{200: LogLine{}},
			codes: []string{UnknownRun, AmbiguousRun, Malformed},
		},
		{
			name: "getLogs", method: "GET", path: "/v1/logs", role: credential.Viewer, handle: (*Server).logs,
			summary: "The newest log lines of the whole fleet.",
			query:   []parameter{lines, following}, stream: true, answers: map[int]any{200: LogLine{}}, codes: []string{Malformed},
		},
		{
			name: "listWorkers", method: "GET", path: "/v1/workers", role: credential.Viewer, handle: (*Server).workers,
			summary: "All workers, idle ones included.", answers: map[int]any{200: WorkerList{}},
		},
		{
			name: "getCluster", method: "GET", path: "/v1/cluster", role: credential.Viewer, handle: (*Server).cluster,
			summary: "Coordinators, runs and workers at a glance.", answers: map[int]any{200: coordinator.Overview{}},
		},
		{
			name: "getDocument", method: "GET", path: "/v1/openapi.json", handle: (*Server).document,
			summary: "This document.", answers: map[int]any{200: nil},
		},
		{
			name: "health", method: "GET", path: "/healthz", handle: (*Server).health,
			summary: "Whether this process answers.", answers: map[int]any{200: Health{}},
		},
		{
			name: "ready", method: "GET", path: "/readyz", handle: (*Server).ready,
			summary: "Whether the fleet has a leader that answers through this coordinator.", answers: map[int]any{200: Health{}}, codes: []string{NoLeader},
		},
		{
			name: "getVersion", method: "GET", path: "/version", handle: (*Server).version,
			summary: "Which coordinator answers, and its version.", answers: map[int]any{200: Version{}},
		},
	}
}

var lines = parameter{"lines", "integer", "at most so many of the newest; 0 = all that are kept; default 100"}

// parameters refuses query parameters that a route does not know: a misspelt one must not be silence.
func (t *route) parameters(r *http.Request) error {
	var known []string
	for _, p := range t.query {
		known = append(known, p.name)
	}
	for name := range r.URL.Query() {
		found := false
		for _, k := range known {
			found = found || k == name
		}
		if !found {
			return problem(Malformed, "%q is no parameter of %s", clip(name), clip(r.URL.Path)).among(clip(name), known)
		}
	}
	return nil
}
