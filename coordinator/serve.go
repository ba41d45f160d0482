package coordinator

import (
	"encoding/json"
	"errors"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// queue is the coordinators' queue group: each request reaches one of them.
const queue = "coordinators"

// readers bounds how many requests for data are answered at once.
const readers = 8

// serve answers workers and the command line until stop is called.
func (l *leader) serve() (stop func(), err error) {
	var subs []*bus.Subscription
	stop = func() {
		for _, s := range subs {
			s.Unsubscribe()
		}
	}
	add := func(s *bus.Subscription, e error) {
		if err = errors.Join(err, e); e == nil {
			subs = append(subs, s)
		}
	}
	run := l.newest().ID
	add(looped(l, wire.HelloSubject, (*leader).hello))
	add(looped(l, wire.BeatSubject, (*leader).beat))
	add(looped(l, wire.LeaveSubject, (*leader).leave))
	add(looped(l, wire.ControlSubject, (*leader).command))
	add(looped(l, wire.ReportSubject(run), (*leader).report))
	add(looped(l, wire.AppliedSubject(run), (*leader).applyReport))
	add(looped(l, wire.ScoredSubject(run), (*leader).scored))
	add(looped(l, wire.SavedSubject(run), (*leader).saved))
	add(looped(l, wire.StatusSubject, func(l *leader, _ *wire.StatusRequest) *wire.StatusReply {
		b, err := json.Marshal(l.status())
		if err != nil {
			l.o.Log.Error("status", "error", err)
			return nil
		}
		return &wire.StatusReply{JSON: b}
	}))

	add(bus.Serve(l.conn, wire.EventsSubject, queue, func(q *wire.EventsRequest, reply func(*wire.EventsReply)) { reply(l.history.after(q)) }))
	add(bus.Serve(l.conn, wire.LogsSubject, queue, func(q *wire.LogsRequest, reply func(*wire.LogsReply)) {
		reply(&wire.LogsReply{Lines: l.lines.newest(q.Lines)})
	}))

	slots := make(chan struct{}, readers)
	add(read(l, slots, wire.HeaderSubject(run), func(q *wire.HeaderRequest) *wire.HeaderReply {
		b := l.batches.load(workOf(q.Kind, q.Step, q.Suite))
		if b.err != nil {
			return &wire.HeaderReply{Err: b.err.Error()}
		}
		return &wire.HeaderReply{Header: b.header}
	}))
	add(read(l, slots, wire.ShardSubject(run), func(q *wire.ShardRequest) *wire.ShardReply {
		shards, err := l.batches.pick(workOf(q.Kind, q.Step, q.Suite), q.Shards)
		if err != nil {
			return &wire.ShardReply{Err: err.Error()}
		}
		return &wire.ShardReply{Shards: fit(shards)}
	}))
	add(read(l, slots, wire.FileSubject(run), l.files.get))
	if err == nil {
		err = l.conn.Flush(l.closing)
	}
	if err != nil {
		stop()
	}
	return stop, err
}

// workOf names the work of a request. Evaluations of all steps read the same texts.
func workOf(kind wire.Kind, step int64, suite int) plan.Work {
	return plan.Work{Kind: fsm.Kind(kind), Step: step, Suite: suite}
}

// looped serves a subject from the leader's loop. A nil answer is none.
func looped[Question, Reply any](l *leader, subject string, f func(*leader, *Question) *Reply) (*bus.Subscription, error) {
	return bus.Serve(l.conn, subject, queue, func(q *Question, reply func(*Reply)) {
		l.post(func(l *leader) {
			if r := f(l, q); r != nil {
				reply(r)
			}
		})
	})
}

// read serves a subject beside the loop: reading data may take a while.
func read[Question, Reply any](l *leader, slots chan struct{}, subject string, f func(*Question) *Reply) (*bus.Subscription, error) {
	return bus.Serve(l.conn, subject, queue, func(q *Question, reply func(*Reply)) {
		slots <- struct{}{}
		l.background.Go(func() {
			defer func() { <-slots }()
			reply(f(q))
		})
	})
}
