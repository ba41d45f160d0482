package api

import (
	_ "embed"
	"net/http"
	"reflect"
	"strings"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// openapi is the document of this API: every route and every field of its types, which a test compares.
//
//go:embed openapi.json
var openapi []byte

func (s *Server) workers(w http.ResponseWriter, r *http.Request) error {
	o, err := s.overview(r)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, WorkerList{some(o.Workers), o.Quarantined})
}

func (s *Server) cluster(w http.ResponseWriter, r *http.Request) error {
	o, err := s.overview(r)
	if err != nil {
		return err
	}
	o.Runs, o.Workers = some(o.Runs), some(o.Workers)
	return respond(w, http.StatusOK, o)
}

func (s *Server) document(w http.ResponseWriter, _ *http.Request) error {
	return respondJSON(w, http.StatusOK, openapi)
}

// health says that this process answers, whatever the fleet does: a restart would help otherwise.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	return respond(w, http.StatusOK, Health{Status: "ok"})
}

// ready says that a leader answers through this coordinator. It does not wait for an election: a load balancer asks
// again by itself.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) error {
	if _, err := askFor[wire.RunsReply](r.Context(), s, s.o.FailureTimeout, wire.RunsSubject, &wire.RunsRequest{}); err != nil {
		return err
	}
	return respond(w, http.StatusOK, Health{Status: "ok"})
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) error {
	return respond(w, http.StatusOK, Version{
		Coordinator: s.o.Coordinator, Version: s.o.Version, ProtocolMin: wire.ProtocolMin, ProtocolMax: wire.ProtocolMax,
	})
}

// fieldsOf returns the JSON names of a struct's fields.
func fieldsOf(v any) (names []string) {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}
