package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// leader is a small coordinator and the network in one process: it grants leases, closes and commits steps as package
// wire's DESIGN.md says, and loses, repeats and delays messages at random.
type leader struct {
	t     testing.TB
	steps int64
	save  int64 // a checkpoint every so many steps; 0 = never
	eval  int64 // an evaluation every so many steps; 0 = never
	fault float64
	drop  map[string]bool // messages never delivered, by kind

	mu       sync.Mutex
	rng      *rand.Rand
	round    wire.Round // newest
	members  []*mem
	links    map[string]*memLink // by worker id
	lease    []string            // by shard
	epochs   []int64
	epoch    int64
	embedded []string // by shard: who reported it
	accepted []string
	maxima   []float32
	over     bool
	losses   []float64
	closings int32
	closed   []float32 // maxima of the newest closing
	applied  map[string]wire.Applied
	commits  []wire.Applied // by step
	scores   map[int64]float64
	evalDone int64
	states   map[string]trainer.State // checkpoints by path
	saved    int64                    // newest committed checkpoint, -1 = none
	last     []float32                // committed maxima
	events   []string
	done     chan struct{}
}

type mem struct {
	id      string
	behind  bool
	peer    string
	leaving bool
	state   int64
	digest  string
	size    int64
}

func newLeader(t testing.TB, steps int64, seed uint64, fault float64) *leader {
	return &leader{
		t: t, steps: steps, fault: fault, rng: rand.New(rand.NewPCG(seed, 9)), links: map[string]*memLink{},
		states: map[string]trainer.State{}, saved: -1, scores: map[int64]float64{}, evalDone: -1, drop: map[string]bool{},
		round: wire.Round{Run: "r", State: wire.Running, Revision: 1 << 32}, done: make(chan struct{}),
	}
}

func (l *leader) note(format string, v ...any) {
	l.events = append(l.events, fmt.Sprintf(format, v...))
}

// full returns the full members that stay.
func (l *leader) full() (out []*mem) {
	for _, m := range l.members {
		if !m.behind {
			out = append(out, m)
		}
	}
	return out
}

func (l *leader) find(id string) *mem {
	for _, m := range l.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

// publish makes a new revision and sends it to everybody.
func (l *leader) publish() {
	r := &l.round
	r.Revision++
	r.Members, r.Leases, r.Embedded = nil, nil, nil
	full := l.full()
	for _, m := range l.members {
		if m.behind && m.peer == "" && len(full) > 0 {
			m.peer = full[0].id
		}
		r.Members = append(r.Members, wire.Member{Worker: m.id, Behind: m.behind, Peer: m.peer})
	}
	for s, w := range l.lease {
		r.Leases = append(r.Leases, wire.Lease{Range: wire.Range{Lo: s, Hi: s + 1}, Worker: w, Epoch: l.epochs[s]})
	}
	for s, w := range l.embedded {
		if w != "" {
			r.Embedded = append(r.Embedded, wire.Range{Lo: s, Hi: s + 1})
		}
	}
	if r.Step > 0 {
		r.Parameters = l.commits[r.Step-1].Parameters
	} else {
		r.Parameters = ""
	}
	copied := *r
	for _, k := range l.links {
		k.deliver(&copied)
	}
}

// between decides what comes next when no round is in flight.
func (l *leader) between() {
	r := &l.round
	r.Kind, r.Closing, r.Scorer = 0, nil, ""
	l.lease, l.embedded, l.accepted = nil, nil, nil
	l.members = slices.DeleteFunc(l.members, func(m *mem) bool { return m.leaving })
	for _, m := range l.members {
		if m.behind && m.state == r.Step && (m.digest == r.Parameters || r.Step == 0 && m.state == 0) {
			m.behind, m.peer = false, ""
			l.note("promote %s at step %d", m.id, r.Step)
		}
	}
	full := l.full()
	r.Load = len(full) == 0
	switch {
	case r.Step == l.steps && (l.eval == 0 || l.evalDone == r.Step) && r.Save == nil:
		if r.State != wire.Finished {
			r.State = wire.Finished
			close(l.done)
		}
	case len(full) == 0:
	case l.save > 0 && r.Save == nil && r.Step%l.save == 0 && r.Step > 0 && l.saved < r.Step:
		r.Save = &wire.Save{Step: r.Step, Worker: full[l.rng.IntN(len(full))].id, Standby: full[l.rng.IntN(len(full))].id}
		fallthrough
	default:
		if r.Step == l.steps && (l.eval == 0 || l.evalDone == r.Step) {
			break
		}
		r.Number++
		r.Attempt, r.Maxima, l.closings = 0, l.last, 0
		r.Kind = wire.Train
		if l.eval > 0 && r.Step%l.eval == 0 && l.evalDone < r.Step {
			r.Kind = wire.Evaluate
		}
		h, _ := batch(r.Step)
		r.Shards = len(h.Tokens)
		l.lease, l.epochs = make([]string, r.Shards), make([]int64, r.Shards)
		l.embedded, l.applied = make([]string, r.Shards), map[string]wire.Applied{}
		l.begin()
		l.epoch++
		for s := range l.lease {
			l.lease[s], l.epochs[s] = full[l.rng.IntN(len(full))].id, l.epoch
		}
	}
	l.publish()
}

// begin clears phase C.
func (l *leader) begin() {
	l.accepted, l.losses = make([]string, l.round.Shards), make([]float64, l.round.Shards)
	l.maxima, l.over = nil, false
}

// expire removes a worker and gives its shards to others.
func (l *leader) expire(id string) {
	if l.find(id) == nil {
		return
	}
	l.note("expire %s in round %d", id, l.round.Number)
	r := &l.round
	l.members = slices.DeleteFunc(l.members, func(m *mem) bool { return m.id == id })
	full := l.full()
	for _, m := range l.members {
		if m.peer == id {
			m.peer = ""
		}
	}
	if r.Save != nil && r.Save.Worker == id {
		if r.Save.Standby != id && l.find(r.Save.Standby) != nil {
			save := *r.Save
			save.Worker = save.Standby
			r.Save = &save
		} else {
			r.Save = nil
		}
	}
	delete(l.applied, id)
	switch {
	case r.Kind == 0:
	case len(full) == 0:
		l.note("total loss at step %d, back to %d", r.Step, max(l.saved, 0))
		r.Save, r.Step, r.Resume, l.last = nil, 0, "", nil
		if l.saved >= 0 {
			r.Step, r.Resume = l.saved, fmt.Sprint("checkpoint-", l.saved)
			l.last = l.states[r.Resume].Maxima
		}
		l.between()
		return
	case len(l.applied) > 0:
		for w := range l.applied {
			l.complete(w)
			break
		}
	default:
		l.epoch++
		if r.Closing != nil && !slices.ContainsFunc(r.Closing.Cover, func(c wire.Cover) bool { return c.Worker == id }) &&
			!slices.ContainsFunc(r.Closing.Owners, func(o wire.Owner) bool { return o.Worker == id }) {
			break // it is not named
		}
		if r.Closing != nil {
			l.note("closing %d withdrawn", r.Closing.Number)
			r.Closing = nil
		}
		for s := range l.lease {
			if l.lease[s] == id || l.accepted[s] == id {
				l.lease[s], l.epochs[s], l.accepted[s] = full[l.rng.IntN(len(full))].id, l.epoch, ""
			}
		}
		if r.Scorer == id {
			r.Scorer = full[0].id
		}
		l.close()
	}
	l.commit()
	l.publish()
}

// complete makes the closing that a finished worker alone serves.
func (l *leader) complete(w string) {
	l.closings++
	l.round.Closing = &wire.Closing{
		Number: l.closings, Complete: true, Maxima: l.closed,
		Owners: []wire.Owner{{Worker: w, Lo: 0, Hi: l.find(w).size}},
	}
	l.note("complete closing %d by %s", l.closings, w)
}

// close closes the step when every shard is accepted.
func (l *leader) close() {
	r := &l.round
	if r.Kind != wire.Train || r.Closing != nil || slices.Contains(l.accepted, "") {
		return
	}
	if l.over {
		r.Attempt++
		r.Maxima = l.maxima
		l.note("attempt %d of step %d", r.Attempt, r.Step)
		l.begin()
		l.publish()
		return
	}
	l.closings++
	l.closed = l.maxima
	r.Closing = &wire.Closing{Number: l.closings, Maxima: l.maxima}
	full := l.full()
	for i, m := range full {
		c := wire.Cover{Worker: m.id}
		for s, w := range l.accepted {
			if w == m.id {
				c.Shards = append(c.Shards, wire.Range{Lo: s, Hi: s + 1})
			}
		}
		r.Closing.Cover = append(r.Closing.Cover, c)
		n := int64(len(full))
		r.Closing.Owners = append(r.Closing.Owners, wire.Owner{Worker: m.id, Lo: m.size * int64(i) / n, Hi: m.size * int64(i+1) / n})
	}
	l.publish()
}

// commit commits the step when all full members have applied it.
func (l *leader) commit() {
	r := &l.round
	if r.Kind != wire.Train || r.Closing == nil || len(l.full()) == 0 {
		return
	}
	var first *wire.Applied
	for _, m := range l.full() {
		a, ok := l.applied[m.id]
		if !ok {
			return
		}
		if first == nil {
			first = &a
		}
		if a.Parameters != first.Parameters || a.Gradient != first.Gradient {
			l.t.Errorf("step %d: %s has parameters %s, %s has %s", r.Step, m.id, a.Parameters, first.Worker, first.Parameters)
		}
	}
	if int(r.Step) < len(l.commits) {
		if l.commits[r.Step].Parameters != first.Parameters {
			l.t.Errorf("step %d executed again: parameters %s, want %s", r.Step, first.Parameters, l.commits[r.Step].Parameters)
		}
	} else {
		l.commits = append(l.commits, *first)
	}
	r.Commit = &wire.Commit{Round: r.Number, Step: r.Step + 1, Parameters: first.Parameters, Gradient: first.Gradient, Maxima: r.Closing.Maxima}
	l.last = r.Closing.Maxima
	l.publish()
	r.Step++
	l.between()
}

// A memLink is one worker's connection. kill cuts it.
type memLink struct {
	l      *leader
	mu     sync.Mutex
	dead   bool
	id     string
	h      *Handlers
	rounds chan *wire.Round
	rows   chan *wire.Rows
	wait   sync.WaitGroup
}

var errLost = errors.New("message lost")

// call passes a request to f, under the leader's lock. It may be lost, or handled while its answer is lost, or
// handled twice.
func call[A any](k *memLink, kind string, f func() *A) (*A, error) {
	l := k.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.dead || l.drop[kind] || l.rng.Float64() < l.fault {
		return nil, errLost
	}
	a := f()
	if l.rng.Float64() < l.fault {
		a = f()
	}
	if l.rng.Float64() < l.fault {
		return nil, errLost
	}
	return a, nil
}

// deliver hands a Round to the worker, unless it is lost. The caller holds the leader's lock.
func (k *memLink) deliver(r *wire.Round) {
	if k.dead || k.l.rng.Float64() < k.l.fault {
		return
	}
	select {
	case k.rounds <- r:
	default:
	}
}

func (k *memLink) Hello(_ context.Context, m *wire.Hello) (*wire.Welcome, error) {
	return call(k, "hello", func() *wire.Welcome {
		l := k.l
		if m.Numerics == "other" {
			return &wire.Welcome{Refused: `numerics "other" is not "toy" of this run`}
		}
		if l.find(m.Worker) == nil {
			x := &mem{id: m.Worker, behind: true, state: -1}
			if full := l.full(); len(full) > 0 {
				x.peer = full[l.rng.IntN(len(full))].id
			}
			l.members = append(l.members, x)
			l.links[m.Worker] = k
			l.note("join %s", m.Worker)
			l.publish()
		}
		return &wire.Welcome{FailureTimeout: 100 * time.Millisecond, Run: &wire.RunInfo{ID: "r", Name: "test"}}
	})
}

func (k *memLink) Beat(_ context.Context, m *wire.Beat) (*wire.Pulse, error) {
	return call(k, "beat", func() *wire.Pulse {
		l := k.l
		x := l.find(m.Worker)
		if x == nil {
			return &wire.Pulse{}
		}
		x.state, x.digest, x.size = m.State, m.Parameters, m.Size
		if x.behind && l.round.Kind == wire.Train && x.state == l.round.Step && x.digest == l.round.Parameters {
			x.behind, x.peer = false, ""
			l.note("promote %s in round %d", x.id, l.round.Number)
			l.publish()
		}
		for _, r := range m.Missing {
			if w := l.embedded[r.Lo]; w != "" && l.find(w) == nil && l.round.Kind != 0 {
				l.note("rows of shard %d are lost", r.Lo)
				l.embedded[r.Lo] = ""
				l.epoch++
				l.epochs[r.Lo] = l.epoch
				l.publish()
			}
		}
		if l.round.Kind == 0 && l.round.State == wire.Running {
			l.between()
		}
		p := &wire.Pulse{Known: true}
		if l.round.Revision > m.Revision {
			r := l.round
			p.Round = &r
		}
		return p
	})
}

func (k *memLink) Leave(_ context.Context, m *wire.Leave) error {
	_, err := call(k, "leave", func() *wire.Verdict {
		if x := k.l.find(m.Worker); x != nil {
			x.leaving = true
			k.l.note("leave %s", m.Worker)
		}
		return &wire.Verdict{Accepted: true}
	})
	return err
}

func (k *memLink) Header(_ context.Context, m *wire.HeaderRequest) (*wire.HeaderReply, error) {
	return call(k, "header", func() *wire.HeaderReply {
		h, _ := batch(textsOf(m.Kind, m.Step))
		return &wire.HeaderReply{Header: h}
	})
}

func textsOf(kind wire.Kind, step int64) int64 {
	if kind == wire.Evaluate {
		return -1
	}
	return step
}

func (k *memLink) Shards(_ context.Context, m *wire.ShardRequest) (*wire.ShardReply, error) {
	return call(k, "shards", func() *wire.ShardReply {
		_, shards := batch(textsOf(m.Kind, m.Step))
		reply := &wire.ShardReply{}
		for _, s := range m.Shards {
			reply.Shards = append(reply.Shards, shards[s])
		}
		return reply
	})
}

func (k *memLink) File(_ context.Context, m *wire.FileRequest) (*wire.FileReply, error) {
	return &wire.FileReply{Err: "no files here"}, nil
}

func (k *memLink) Report(_ context.Context, m *wire.Report) (*wire.Verdict, error) {
	return call(k, "report", func() *wire.Verdict {
		l := k.l
		if m.NonFinite && l.round.State == wire.Running {
			l.round.State, l.round.Reason = wire.Failed, fmt.Sprintf("shard %d", m.Shard)
			close(l.done)
			l.publish()
		}
		if m.Round != l.round.Number || l.round.Kind == 0 || l.find(m.Worker) == nil {
			return &wire.Verdict{}
		}
		mine := l.lease[m.Shard] == m.Worker && l.epochs[m.Shard] == m.Epoch
		if trainer.Phase(m.Phase) == trainer.Embed {
			if mine && l.embedded[m.Shard] == "" {
				l.embedded[m.Shard] = m.Worker
				if l.round.Kind == wire.Evaluate && !slices.Contains(l.embedded, "") {
					full := l.full()
					l.round.Scorer = full[l.rng.IntN(len(full))].id
				}
				l.publish()
			}
			return &wire.Verdict{Accepted: mine}
		}
		if m.Attempt != l.round.Attempt {
			return &wire.Verdict{}
		}
		if l.accepted[m.Shard] == "" && mine {
			l.accepted[m.Shard] = m.Worker
			l.over = l.over || m.Overflow
			if l.maxima == nil {
				l.maxima = make([]float32, len(m.Maxima))
			}
			merged := slices.Clone(l.maxima)
			for i, x := range m.Maxima {
				merged[i] = max(merged[i], x)
			}
			l.maxima = merged
			l.close()
			return &wire.Verdict{Accepted: true}
		}
		return &wire.Verdict{Accepted: l.accepted[m.Shard] == m.Worker}
	})
}

func (k *memLink) Applied(_ context.Context, m *wire.Applied) (*wire.Verdict, error) {
	return call(k, "applied", func() *wire.Verdict {
		l := k.l
		x := l.find(m.Worker)
		if x == nil || m.Round != l.round.Number || l.round.Kind != wire.Train {
			return &wire.Verdict{}
		}
		if !x.behind {
			l.applied[m.Worker] = *m
			if l.round.Closing == nil { // withdrawn, but this worker had everything
				l.complete(m.Worker)
				l.publish()
			}
			l.commit()
		}
		return &wire.Verdict{Accepted: true}
	})
}

func (k *memLink) Scored(_ context.Context, m *wire.Scored) (*wire.Verdict, error) {
	return call(k, "scored", func() *wire.Verdict {
		l := k.l
		if m.Round == l.round.Number && l.round.Kind == wire.Evaluate && l.round.Scorer == m.Worker {
			l.scores[m.Step] = m.Metrics["score"]
			l.evalDone = m.Step
			l.between()
		}
		return &wire.Verdict{Accepted: true}
	})
}

func (k *memLink) Saved(_ context.Context, m *wire.Saved) (*wire.Verdict, error) {
	return call(k, "saved", func() *wire.Verdict {
		l := k.l
		if l.round.Save != nil && l.round.Save.Step == m.Step && l.round.Save.Worker == m.Worker {
			l.note("saved step %d by %s: %q", m.Step, m.Worker, m.Err)
			if m.Err == "" {
				l.saved = m.Step
			}
			l.round.Save = nil
			if l.round.Kind == 0 {
				l.between()
			} else {
				l.publish()
			}
		}
		return &wire.Verdict{Accepted: true}
	})
}

// peers returns the live links of other workers.
func (k *memLink) peers() (out []*memLink) {
	for _, x := range k.l.links {
		if x != k && !x.dead && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func (k *memLink) Publish(_ context.Context, m *wire.Rows) error {
	_, err := call(k, "rows", func() *wire.Verdict {
		for _, x := range k.peers() {
			if k.l.rng.Float64() >= k.l.fault {
				select {
				case x.rows <- m:
				default:
				}
			}
		}
		return nil
	})
	return err
}

func (k *memLink) Send(_ context.Context, to string, m *wire.Rows) error {
	_, err := call(k, "send", func() *wire.Verdict {
		if x := k.l.links[to]; x != nil && !x.dead {
			select {
			case x.rows <- m:
			default:
			}
		}
		return nil
	})
	return err
}

func (k *memLink) AskRows(_ context.Context, m *wire.RowsRequest) error {
	_, err := call(k, "askrows", func() *wire.Verdict {
		for _, x := range k.peers() {
			x.mu.Lock()
			if h := x.h; h != nil {
				x.wait.Go(func() { h.AskRows(context.Background(), m) })
			}
			x.mu.Unlock()
		}
		return nil
	})
	return err
}

func (k *memLink) Ask(ctx context.Context, worker string, m *wire.ChunkRequest) (*wire.Chunk, error) {
	l := k.l
	l.mu.Lock()
	x := l.links[worker]
	lost := k.dead || x == nil || x.dead || l.rng.Float64() < l.fault || l.drop[m.Stream]
	l.mu.Unlock()
	if lost {
		return nil, errLost
	}
	x.mu.Lock()
	h := x.h
	ok := h != nil && x.id == worker
	if ok {
		x.wait.Add(1)
	}
	x.mu.Unlock()
	if !ok {
		return nil, errLost
	}
	defer x.wait.Done()
	c := h.Chunk(ctx, m)
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.dead || l.rng.Float64() < l.fault {
		return nil, errLost
	}
	return c, nil
}

func (k *memLink) Attend(_, worker string, h Handlers) (func(), error) {
	ctx, cancel := context.WithCancel(context.Background())
	k.mu.Lock()
	k.id, k.h = worker, &h
	k.mu.Unlock()
	k.wait.Go(func() {
		for {
			select {
			case r := <-k.rounds:
				h.Round(r)
			case m := <-k.rows:
				h.Rows(m)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		k.mu.Lock()
		k.h = nil
		k.mu.Unlock()
		cancel()
		k.wait.Wait()
	}, nil
}
