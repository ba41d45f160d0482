package api

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// NDJSONType is the media type of streams: one JSON value a line; an empty line says that the stream lives.
	NDJSONType = "application/x-ndjson"
	sseType    = "text/event-stream"

	alive     = 10 * time.Second // how often a silent stream says that it lives
	slowest   = 15 * time.Second // how long a reader may take to take one line
	streamGap = time.Second      // how long what nobody announced may go unnoticed
)

// stream writes values to a client one by one, as lines of JSON, or as server-sent events if it asks for those.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	sse     bool
}

// begin opens a stream. done gives its place back.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) (st *stream, done func(), err error) {
	select {
	case s.streams <- struct{}{}:
	default:
		s.o.Refusals.Add(manyStreams, r.RemoteAddr, nil)
		return nil, nil, problem(TooMany, "%d streams are open, which is as many as this coordinator serves", maxStreams)
	}
	st = &stream{w: w, control: http.NewResponseController(w), sse: accepts(r, sseType)}
	// The server's own bound on reading does not fit a connection that stays.
	_ = st.control.SetReadDeadline(time.Time{})
	h := w.Header()
	h.Set("Content-Type", NDJSONType)
	if st.sse {
		h.Set("Content-Type", sseType)
	}
	h.Set("X-Accel-Buffering", "no") // a proxy must not wait for more
	w.WriteHeader(http.StatusOK)
	return st, func() { <-s.streams }, st.flush()
}

func accepts(r *http.Request, media string) bool {
	for _, a := range strings.Split(r.Header.Get("Accept"), ",") {
		if name, _, _ := strings.Cut(a, ";"); strings.TrimSpace(name) == media {
			return true
		}
	}
	return false
}

// send writes one value, JSON without line breaks. id 0 is none.
func (st *stream) send(id int64, kind string, value []byte) error {
	var b bytes.Buffer
	if st.sse {
		if id != 0 {
			fmt.Fprintf(&b, "id: %d\n", id)
		}
		if kind != "" {
			fmt.Fprintf(&b, "event: %s\n", kind)
		}
		fmt.Fprintf(&b, "data: %s\n\n", value)
	} else {
		b.Write(value)
		b.WriteByte('\n')
	}
	_ = st.control.SetWriteDeadline(time.Now().Add(slowest))
	_, err := st.w.Write(b.Bytes())
	return err
}

// flush sends what was written.
func (st *stream) flush() error {
	_ = st.control.SetWriteDeadline(time.Now().Add(slowest))
	return st.control.Flush()
}

// live says that the stream lives, so that neither side nor a proxy takes silence for death.
func (st *stream) live() error {
	text := "\n"
	if st.sse {
		text = ": \n\n"
	}
	_ = st.control.SetWriteDeadline(time.Now().Add(slowest))
	if _, err := st.w.Write([]byte(text)); err != nil {
		return err
	}
	return st.flush()
}

// yesno reads a query parameter that is yes or no.
func yesno(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" && r.URL.Query().Has(name) {
		return true, nil
	}
	if text == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, problem(Malformed, "%s=%.100q: 1 or 0 is expected", name, text)
	}
	return v, nil
}

// number reads a query parameter that is a number of at least 0.
func number(r *http.Request, name string, otherwise int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v < 0 {
		return 0, problem(Malformed, "%s=%.100q: a number of at least 0 is expected", name, text)
	}
	return v, nil
}
