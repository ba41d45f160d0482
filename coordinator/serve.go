package coordinator

import (
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
	subs := subscriptions{}
	subs.add(answered(l, wire.HelloSubject, (*leader).hello))
	subs.add(looped(l, wire.BeatSubject, (*leader).beat))
	subs.add(looped(l, wire.LeaveSubject, (*leader).leave))
	subs.add(looped(l, wire.ControlSubject, (*leader).command))
	subs.add(looped(l, wire.StatusSubject, (*leader).statusOf))
	subs.add(looped(l, wire.RunsSubject, (*leader).overview))
	subs.add(answered(l, wire.SubmitSubject, (*leader).submit))
	subs.add(bus.Serve(l.conn, wire.EventsSubject, queue, func(q *wire.EventsRequest, reply func(*wire.EventsReply)) { reply(l.history.after(q)) }))
	subs.add(bus.Serve(l.conn, wire.LogsSubject, queue, func(q *wire.LogsRequest, reply func(*wire.LogsReply)) {
		reply(&wire.LogsReply{Lines: l.lines.newest(q.Lines)})
	}))
	return subs.done(l)
}

// serveRun answers the workers of a run.
func (l *leader) serveRun(run string, h *host) (stop func(), err error) {
	subs := subscriptions{}
	subs.add(looped(l, wire.ReportSubject(run), (*leader).report))
	subs.add(looped(l, wire.AppliedSubject(run), (*leader).applyReport))
	subs.add(looped(l, wire.ScoredSubject(run), (*leader).scored))
	subs.add(looped(l, wire.SavedSubject(run), (*leader).saved))
	slots := make(chan struct{}, readers)
	subs.add(read(l, slots, wire.HeaderSubject(run), func(q *wire.HeaderRequest) *wire.HeaderReply {
		b := h.batches.load(workOf(q.Kind, q.Step, q.Suite))
		if b.err != nil {
			return &wire.HeaderReply{Err: b.err.Error()}
		}
		return &wire.HeaderReply{Header: b.header}
	}))
	subs.add(read(l, slots, wire.ShardSubject(run), func(q *wire.ShardRequest) *wire.ShardReply {
		shards, err := h.batches.pick(workOf(q.Kind, q.Step, q.Suite), q.Shards)
		if err != nil {
			return &wire.ShardReply{Err: err.Error()}
		}
		return &wire.ShardReply{Shards: fit(shards)}
	}))
	subs.add(read(l, slots, wire.FileSubject(run), h.files.get))
	return subs.done(l)
}

// subscriptions are made and ended together.
type subscriptions struct {
	list []*bus.Subscription
	err  error
}

func (s *subscriptions) add(sub *bus.Subscription, err error) {
	if s.err = errors.Join(s.err, err); err == nil {
		s.list = append(s.list, sub)
	}
}

func (s *subscriptions) stop() {
	for _, sub := range s.list {
		sub.Unsubscribe()
	}
}

// done waits until the server has them all.
func (s *subscriptions) done(l *leader) (stop func(), err error) {
	if s.err == nil {
		s.err = l.conn.Flush(l.closing)
	}
	if s.err != nil {
		s.stop()
	}
	return s.stop, s.err
}

// workOf names the work of a request. Evaluations of all steps read the same texts.
func workOf(kind wire.Kind, step int64, suite int) plan.Work {
	return plan.Work{Kind: fsm.Kind(kind), Step: step, Suite: suite}
}

// answered serves a subject from the leader's loop, which may answer later.
func answered[Question, Reply any](l *leader, subject string, f func(*leader, *Question, func(*Reply))) (*bus.Subscription, error) {
	return bus.Serve(l.conn, subject, queue, func(q *Question, reply func(*Reply)) {
		l.post(func(l *leader) { f(l, q, reply) })
	})
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
