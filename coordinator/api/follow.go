package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// Gap is the kind of an event that stands for earlier ones which are no longer kept.
const Gap = "gap"

// events streams a run's events after an id. What the leader publishes only wakes the stream: the events themselves are
// asked for, after the last one that was sent, so none is missed, none comes twice, and a new leader goes on where the old
// one was.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	follow, err := yesno(r, "follow")
	if err != nil {
		return err
	}
	after, err := number(r, "after", 0)
	if err != nil {
		return err
	}
	limit, err := number(r, "limit", 0)
	if err != nil {
		return err
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		if after, err = strconv.ParseInt(last, 10, 64); err != nil || after < 0 {
			return problem(Malformed, "Last-Event-ID %.100q: the id of an event is expected", last)
		}
	}
	run, err := s.find(r)
	if err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	if follow || accepts(r, sseType) {
		follow = !r.URL.Query().Has("follow") || follow // server-sent events go on unless they are told not to
		sub, err := bus.Subscribe(s.o.Conn, wire.EventSubject, func(e *wire.RunEvent) {
			if e.Run == run.ID {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
		})
		if err != nil {
			return err
		}
		defer sub.Unsubscribe()
	}
	more := func() (*wire.EventsReply, error) {
		return ask[wire.EventsReply](r.Context(), s, wire.EventsSubject, &wire.EventsRequest{Run: run.ID, After: after, Limit: int(min(limit, 1<<20))})
	}
	reply, err := more() // before anything is sent: then an error can still be a status
	if err != nil {
		return err
	}
	st, done, err := s.begin(w, r)
	if err != nil {
		return err
	}
	defer done()
	poll, beat := time.NewTicker(streamGap), time.NewTicker(alive)
	defer poll.Stop()
	defer beat.Stop()
	for {
		if reply != nil {
			if reply.Gone > after && after > 0 {
				b, err := json.Marshal(coordinator.Event{ID: reply.Gone, Time: time.Now(), Kind: Gap, Run: run.ID, Reason: "earlier events are no longer kept; events.jsonl in the run's folder has them"})
				if err != nil {
					return err
				}
				if err := st.send(reply.Gone, Gap, b); err != nil {
					return nil //nolint:nilerr // the reader is gone
				}
			}
			for i := range reply.Events {
				e := &reply.Events[i]
				if err := st.send(e.ID, kindOf(e.JSON), e.JSON); err != nil {
					return nil //nolint:nilerr // the reader is gone
				}
				after = e.ID
			}
			if len(reply.Events) > 0 && st.flush() != nil {
				return nil
			}
			if limit > 0 || !follow && !reply.More {
				return nil
			}
		}
		if reply == nil || !reply.More {
			select {
			case <-wake:
			case <-poll.C:
			case <-beat.C:
				if st.live() != nil {
					return nil
				}
			case <-r.Context().Done():
				return nil
			}
		}
		if reply, err = more(); err != nil {
			reply = nil // no leader now: the stream waits
			if r.Context().Err() != nil {
				return nil
			}
		}
	}
}

func kindOf(event []byte) string {
	var e struct {
		Kind string `json:"kind"`
	}
	_ = json.Unmarshal(event, &e) // ours
	return e.Kind
}

// logs streams the newest lines of a run, or of the whole fleet.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	follow, err := yesno(r, "follow")
	if err != nil {
		return err
	}
	n, err := number(r, "lines", 100)
	if err != nil {
		return err
	}
	id := ""
	if r.PathValue("run") != "" {
		run, err := s.find(r)
		if err != nil {
			return err
		}
		id = run.ID
	}
	about := func(l *wire.Log) bool { return id == "" || l.Run == id || l.Run == "" }
	lines := make(chan *wire.Log, 1024)
	var dropped atomic.Int64
	if follow { // before the newest are asked for, so that no line falls between the two
		sub, err := bus.Subscribe(s.o.Conn, wire.LogSubject, func(l *wire.Log) {
			if !about(l) {
				return
			}
			select {
			case lines <- l:
			default:
				dropped.Add(1) // a slow reader must not hold the others up; he is told
			}
		})
		if err != nil {
			return err
		}
		defer sub.Unsubscribe()
		if err := s.o.Conn.Flush(r.Context()); err != nil {
			return err
		}
	}
	reply, err := ask[wire.LogsReply](r.Context(), s, wire.LogsSubject, &wire.LogsRequest{})
	if err != nil {
		return err
	}
	var kept []*wire.Log
	for i := range reply.Lines {
		if about(&reply.Lines[i]) {
			kept = append(kept, &reply.Lines[i])
		}
	}
	if n > 0 && int64(len(kept)) > n {
		kept = kept[int64(len(kept))-n:]
	}
	st, done, err := s.begin(w, r)
	if err != nil {
		return err
	}
	defer done()
	told := map[wire.Log]bool{} // a line may be in the answer and in what follows
	for _, l := range kept {
		told[*l] = true
		if st.line(l) != nil {
			return nil
		}
	}
	if st.flush() != nil || !follow {
		return nil
	}
	beat := time.NewTicker(alive)
	defer beat.Stop()
	for {
		select {
		case l := <-lines:
			if told != nil && told[*l] {
				continue
			}
			if st.line(l) != nil || len(lines) == 0 && st.flush() != nil {
				return nil
			}
			if k := dropped.Swap(0); k > 0 {
				gap := &wire.Log{Time: time.Now(), Source: s.o.Coordinator, Level: "WARN", Text: fmt.Sprintf("%d lines are missing here: they came faster than they were read", k)}
				if st.line(gap) != nil || st.flush() != nil {
					return nil
				}
			}
		case <-beat.C:
			told = nil // those that were under way then have come
			if st.live() != nil {
				return nil
			}
		case <-r.Context().Done():
			return nil
		}
	}
}

// line sends one line of a log.
func (st *stream) line(l *wire.Log) error {
	b, err := json.Marshal(LogLine{Time: l.Time, Run: l.Run, Source: l.Source, Level: l.Level, Text: l.Text})
	if err != nil {
		return err
	}
	return st.send(0, "", b)
}
