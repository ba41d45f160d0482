package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
)

// Handler returns the handler of all routes behind the gate: rate, host and origin, token, size, in this order. What
// it costs to turn somebody away does not depend on what he sent.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for i := range routes {
		r := &routes[i]
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, q *http.Request) { s.answer(w, q, r) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) { nowhere(mux, q).write(w) })
	return s.gate(mux)
}

// gate is what every request passes before anybody asks what it wants.
func (s *Server) gate(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // the very value
				s.o.Log.Error("a request broke its handler; this is a mistake in the coordinator", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
				problem(Internal, "the coordinator's log says more").write(w)
			}
		}()
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'")
		if !s.requests.take(address(r.RemoteAddr), 1) {
			s.o.Refusals.Add(tooOften, r.RemoteAddr, nil)
			problem(TooMany, "this address asks more than %d times a second", requestRate).write(w)
			return
		}
		// Without tokens the address is the only wall, and a web page that the user looks at stands inside it: neither
		// may it post across origins, nor may its name be pointed at this address.
		if s.hosts != nil && !s.hosts[hostname(r.Host)] {
			s.o.Refusals.Add(otherHost, r.RemoteAddr, nil)
			problem(Forbidden, "this listener is not %q; without tokens it answers to 127.0.0.1 and localhost only", r.Host).write(w)
			return
		}
		if err := origin.Check(r); err != nil {
			s.o.Refusals.Add(otherOrigin, r.RemoteAddr, err)
			problem(Forbidden, "web pages of other origins may not steer the fleet").write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// answer lets a route answer.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, route *route) {
	began := time.Now()
	who, p := s.authorize(r, route)
	if p != nil {
		p.write(w)
		return
	}
	limit := int64(maxBody)
	if route.file {
		limit = MaxFile + maxBody // of a JSON body around it
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	if !route.stream {
		ctx, cancel := context.WithTimeout(r.Context(), max(s.patience+5*time.Second, time.Minute))
		defer cancel()
		r = r.WithContext(ctx)
	}
	err := route.parameters(r)
	if err == nil {
		err = route.handle(s, w, r)
	}
	if route.role == credential.Operator {
		s.o.Log.Info("asked over the API", "what", route.name, "path", r.URL.Path, "by", who.String(), "error", err)
	} else {
		s.o.Log.Debug("asked over the API", "what", route.name, "path", r.URL.Path, "by", who.String(), "seconds", time.Since(began).Seconds(), "error", err)
	}
	s.fail(w, r, err)
}

// fail tells of an error, unless nobody listens any more.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *Problem
	switch {
	case err == nil || r.Context().Err() != nil && !errors.Is(err, context.DeadlineExceeded):
	case errors.As(err, &p):
		p.write(w)
	case errors.Is(err, context.DeadlineExceeded):
		problem(NotYet, "no answer within the time of a request; ask again").write(w)
	default:
		s.o.Log.Error("api", "path", r.URL.Path, "error", err)
		problem(Internal, "%v", err).write(w)
	}
}

// authorize returns who asks, if he may: what his token says, or else his certificate.
func (s *Server) authorize(r *http.Request, route *route) (credential.Member, *Problem) {
	local := credential.Member{Role: credential.Operator, Name: "local"}
	if route.role == "" || s.o.open() {
		return local, nil
	}
	var who credential.Member
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case s.o.Tokens != nil && strings.EqualFold(scheme, "Bearer"):
		var err error
		if who, err = s.o.Tokens.Check(credential.NewSecret(strings.TrimSpace(token))); err != nil {
			s.requests.take(address(r.RemoteAddr), badToken)
			reason := credential.BadToken
			var refused *credential.RefusedError
			if errors.As(err, &refused) {
				reason = refused.Reason
			}
			s.o.Refusals.Add(reason, r.RemoteAddr, err)
			return who, problem(Unauthorized, "the token is not taken: it is unknown or has expired; `counterpoint token` makes one")
		}
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		var err error
		if who, err = credential.MemberOf(r.TLS.PeerCertificates[0]); err != nil { // checked in the handshake
			return who, problem(Unauthorized, "%v", err)
		}
	default:
		s.o.Refusals.Add(noToken, r.RemoteAddr, nil)
		return who, problem(Unauthorized, "this needs the header Authorization: Bearer TOKEN (--token, or COUNTERPOINT_TOKEN), or a certificate of an operator or viewer")
	}
	if !who.Role.May(route.role) {
		s.o.Refusals.Add(credential.NotPermitted, r.RemoteAddr, fmt.Errorf("%s asks for %s", who, route.name))
		return who, problem(Forbidden, "%s may not do this: %s takes the role %s", who, route.name, route.role)
	}
	return who, nil
}

// nowhere says what is wrong with a request that no route takes.
func nowhere(mux *http.ServeMux, r *http.Request) *Problem {
	var methods, paths []string
	for _, route := range routes {
		q := r.Clone(r.Context())
		q.Method = route.method
		if _, pattern := mux.Handler(q); pattern == route.method+" "+route.path {
			methods = append(methods, route.method)
		}
		if !slices.Contains(paths, route.path) {
			paths = append(paths, route.path)
		}
	}
	if len(methods) > 0 {
		p := problem(MethodNotAllowed, "%s %.200s: allowed: %s", r.Method, r.URL.Path, strings.Join(methods, ", "))
		p.Allowed = methods
		return p
	}
	return problem(NotFound, "%s %.200s: no such path; /v1/openapi.json lists them", r.Method, r.URL.Path).among(r.URL.Path[:min(len(r.URL.Path), 200)], paths)
}

// respond answers with JSON.
func respond(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return respondJSON(w, status, b)
}

func respondJSON(w http.ResponseWriter, status int, b []byte) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that is gone needs no answer
	return nil
}

// body reads a request's body whole and says of which type it is.
func body(r *http.Request) (b []byte, media string, err error) {
	if media, _, err = mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil {
		media = ""
	}
	b, err = io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, media, problem(TooLarge, "the body has more than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, media, problem(Malformed, "the body ended early: %v", err)
	}
	return b, media, nil
}
