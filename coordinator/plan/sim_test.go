package plan_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
)

// A simulation of a fleet in one goroutine: the real state machine and the real plan, and workers that follow the
// protocol, drop and repeat messages, die, hang and join. What a sum is over is tracked shard by shard.

const (
	steps   = 12
	shards  = 7
	failure = time.Second
)

// digest is the gradient of a step whose shards were each counted counts[shard] times.
func digest(step int64, counts []int) string {
	sum := sha256.Sum256(fmt.Append(nil, step, counts))
	return hex.EncodeToString(sum[:8])
}

// params is the parameter digest after a step's gradient.
func params(before, gradient string) string {
	sum := sha256.Sum256([]byte(before + gradient))
	return hex.EncodeToString(sum[:8])
}

// reference returns the digests of the parameters after 0..steps steps.
func reference() []string {
	out := []string{"initial"}
	for step := range int64(steps) {
		out = append(out, params(out[step], digest(step, slices.Repeat([]int{1}, shards))))
	}
	return out
}

type worker struct {
	id      string
	alive   bool
	hung    bool
	state   int64
	params  string
	sum     map[int]bool // shards of (round, attempt) that are in its sum
	round   int64
	attempt int32
	applied *plan.Applied
	copies  map[int64]string // checkpoint copies by step
	wrong   bool             // its memory is bad
}

type message func(s *sim)

type sim struct {
	t       *testing.T
	rng     *rand.Rand
	machine *fsm.Machine
	entries uint64
	seen    *plan.Seen
	now     time.Time
	workers []*worker
	queue   []message
	names   int
	faults  bool
	saved   map[string]string // checkpoint path -> parameters
}

func newSim(t *testing.T, seed uint64, settings fsm.Settings) *sim {
	timers, err := plan.NewTimers(failure)
	if err != nil {
		t.Fatal(err)
	}
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 7)), machine: fsm.NewMachine(), now: time.Unix(1_700_000_000, 0), saved: map[string]string{}}
	s.lead(timers, true)
	s.propose(&fsm.Submit{ID: "r", Steps: steps, Settings: settings})
	return s
}

// lead begins a new leader's term: it knows the log and nothing else.
func (s *sim) lead(timers plan.Timers, alone bool) {
	s.seen = &plan.Seen{Timers: timers, Since: s.now, Wait: s.now.Add(timers.Grace), Alone: alone, Workers: map[string]*plan.Worker{}, Shapes: map[plan.Work]plan.Shape{}, Verified: map[string]string{}}
	if alone {
		s.seen.Wait = s.now
	}
	s.turn()
	for _, w := range s.workers { // the term changed: reports are sent again
		if r := s.run(); w.alive && r != nil && r.Round != nil && w.round == r.Round.Number {
			for shard := range w.sum {
				s.report(w, plan.Backward, shard)
			}
			if w.applied != nil {
				s.sendApplied(w)
			}
		}
	}
}

func (s *sim) state() *fsm.State { return s.machine.State() }
func (s *sim) run() *fsm.Run     { return s.state().Active() }

func (s *sim) propose(commands ...fsm.Command) {
	s.entries++
	if err := s.machine.Apply(fsm.NewEntry(1, s.entries, s.now, commands).Marshal()); err != nil {
		s.t.Fatalf("apply: %v", err)
	}
	if err := s.state().Check(); err != nil {
		s.t.Fatal(err)
	}
	s.turn()
}

func (s *sim) turn() {
	if r := s.run(); r != nil {
		s.seen.Turn(r.Round)
	}
}

// think is the leader's loop: prepare, plan, propose.
func (s *sim) think() {
	for range 10 {
		r := s.run()
		if r == nil {
			return
		}
		s.turn()
		for _, f := range []func(*fsm.Run) (plan.Work, bool){plan.Next, plan.After} {
			if w, ok := f(r); ok {
				s.seen.Shapes[w] = plan.Shape{Tokens: []int32{9, 9, 8, 7, 7, 5, 3}, Gather: true}
			}
		}
		if m := plan.Candidate(r); m != nil {
			if _, known := s.seen.Verified[m.Path]; !known {
				s.seen.Verified[m.Path] = ""
			}
		}
		commands, err := plan.Plan(s.state(), s.seen, s.now)
		if err != nil {
			s.t.Fatalf("%v", err)
		}
		if len(commands) == 0 {
			return
		}
		s.propose(commands...)
	}
	s.t.Fatalf("the plan does not come to rest: %+v", s.run())
}

func (s *sim) join() *worker {
	w := &worker{alive: true, state: -1, copies: map[int64]string{}}
	s.workers = append(s.workers, w)
	s.hello(w)
	return w
}

func (s *sim) hello(w *worker) {
	s.names++
	w.id, w.round, w.sum, w.applied = fmt.Sprintf("w%d", s.names), 0, nil, nil
	s.seen.Workers[w.id] = &plan.Worker{Heard: s.now, State: -1}
	s.propose(&fsm.Join{Worker: w.id, Name: w.id, Numerics: "k"})
}

// send delivers a message now, later, twice or, with faults, after others; nothing is lost for ever because workers
// repeat what was not answered.
func (s *sim) send(m message) {
	s.queue = append(s.queue, m)
	if s.faults && s.rng.IntN(6) == 0 {
		s.queue = append(s.queue, m)
	}
}

func (s *sim) deliver() {
	for len(s.queue) > 0 && s.rng.IntN(4) > 0 {
		i := 0
		if s.faults {
			i = s.rng.IntN(len(s.queue))
		}
		m := s.queue[i]
		s.queue = slices.Delete(s.queue, i, i+1)
		m(s)
	}
}

func (s *sim) report(w *worker, phase plan.Phase, shard int) {
	r := s.run().Round
	lease, _ := r.Holder(shard)
	round, attempt, id := r.Number, r.Attempt, w.id
	// The first attempt of every fifth step overflows in one shard.
	overflow := phase == plan.Backward && r.Step%5 == 4 && attempt == 0 && shard == 2
	rep := &plan.Report{Worker: id, Epoch: lease.Epoch, Maxima: []float32{float32(shard), 1}, Tokens: 10, Overflow: overflow}
	s.send(func(s *sim) {
		if s.seen.Accept(s.state(), round, attempt, phase, shard, rep) && phase == plan.Backward && w.id == id && w.round == round && w.attempt == attempt {
			w.sum[shard] = true
		}
	})
}

func (s *sim) sendApplied(w *worker) {
	round, attempt, id, a := w.round, w.attempt, w.id, *w.applied
	state := w.state
	s.send(func(s *sim) {
		if r := s.run(); r != nil && r.Round != nil && r.Round.Number == round && r.Round.Attempt == attempt && s.state().Member(id) != nil {
			s.seen.Applied[id] = a
		}
		if v := s.seen.Workers[id]; v != nil && state > v.State {
			v.State, v.Parameters = state, a.Parameters
		}
	})
}

// act lets a worker do one thing that the newest round asks for.
func (s *sim) act(w *worker) {
	r := s.run()
	m := s.state().Member(w.id)
	if m == nil { // a beat said so: it drops its sums and says hello again
		s.hello(w)
		return
	}
	if v := s.seen.Workers[w.id]; v != nil {
		v.Heard, v.State, v.Parameters, v.Size = s.now, w.state, w.params, 100
	} else {
		s.seen.Workers[w.id] = &plan.Worker{Heard: s.now, State: w.state, Parameters: w.params, Size: 100}
	}
	if r == nil {
		return
	}
	if r.Save != nil && w.state == r.Save.Step && (r.Save.Worker == w.id || r.Save.Standby == w.id) {
		w.copies[r.Save.Step] = w.params
	}
	if r.Save != nil && r.Save.Worker == w.id && s.rng.IntN(3) == 0 {
		saved := &plan.Saved{Step: r.Save.Step, Worker: w.id, Path: fmt.Sprintf("/step-%d-%s", r.Save.Step, w.id), Err: "no copy"}
		if p, ok := w.copies[r.Save.Step]; ok {
			saved.Err = ""
			s.saved[saved.Path] = p
		}
		s.send(func(s *sim) { s.seen.Saved = saved })
	}
	if m.Behind {
		switch peer := s.byID(m.Peer); {
		case peer != nil && peer.alive && w.state != r.Cursor && (w.state < r.Cursor || w.state > r.Cursor+1):
			w.state, w.params = peer.state, peer.params
		case m.Peer == "" && plan.MayLoad(s.state(), r, s.seen) && w.state != r.Cursor:
			w.state, w.params = r.Resume.Step, "initial"
			if r.Resume.Path != "" {
				w.params = s.saved[r.Resume.Path]
			}
		}
	}
	if r.Round == nil {
		return
	}
	if w.round != r.Round.Number || w.attempt != r.Round.Attempt {
		w.round, w.attempt, w.sum, w.applied = r.Round.Number, r.Round.Attempt, map[int]bool{}, nil
	}
	if w.state == r.Round.Step+1 && w.applied != nil {
		s.sendApplied(w)
		return
	}
	if w.state != r.Round.Step {
		return
	}
	if r.Round.Kind == fsm.Evaluate {
		s.evaluate(w, r.Round)
		return
	}
	if k := r.Round.Closing; k != nil && !k.Withdrawn {
		s.reduce(w, r.Round, k)
		return
	}
	if !m.Behind {
		s.compute(w, r.Round)
	}
}

func (s *sim) compute(w *worker, r *fsm.Round) {
	embedded := 0
	for _, e := range s.seen.EmbeddedRanges() {
		embedded += e.Hi - e.Lo
	}
	for _, shard := range s.rng.Perm(shards) {
		l, _ := r.Holder(shard)
		switch {
		case l.Worker != w.id:
		case s.seen.Embedded[shard] == nil:
			s.report(w, plan.Embed, shard)
			return
		case embedded == shards && !w.sum[shard]:
			s.report(w, plan.Backward, shard)
			return
		}
	}
}

// reduce gives a worker the total of the closing if all it needs can be had from live workers.
func (s *sim) reduce(w *worker, r *fsm.Round, k *fsm.Closing) {
	counts := make([]int, shards)
	if k.Complete {
		owner := s.byID(k.Owners[0].Worker)
		if owner == nil || !owner.alive || owner.applied == nil {
			return
		}
		w.applied = &plan.Applied{Gradient: owner.applied.Gradient, Loss: 1}
	} else {
		for _, o := range k.Owners {
			if owner := s.byID(o.Worker); owner == nil || !owner.alive {
				return
			}
		}
		for _, c := range k.Cover {
			from := s.byID(c.Worker)
			if from == nil || !from.alive || from.round != r.Number || from.attempt != r.Attempt {
				return
			}
			for _, span := range c.Shards {
				for shard := span.Lo; shard < span.Hi; shard++ {
					if !from.sum[shard] {
						return // its verdict is still on the way
					}
					counts[shard]++
				}
			}
		}
		w.applied = &plan.Applied{Gradient: digest(r.Step, counts), Loss: 1}
	}
	w.params = params(w.params, w.applied.Gradient)
	if w.wrong {
		w.params = "flipped"
	}
	w.state++
	w.applied.Parameters = w.params
	s.sendApplied(w)
}

func (s *sim) evaluate(w *worker, r *fsm.Round) {
	if r.Scorer == w.id {
		number, id, step := r.Number, w.id, r.Step
		s.send(func(s *sim) {
			if s.seen.Round == number {
				s.seen.Scored = &plan.Scored{Worker: id, Metrics: map[string]float64{"ndcg@10": float64(step % 7)}}
			}
		})
		return
	}
	for _, shard := range s.rng.Perm(shards) {
		if l, _ := r.Holder(shard); l.Worker == w.id && s.seen.Embedded[shard] == nil {
			s.report(w, plan.Embed, shard)
			return
		}
	}
}

func (s *sim) byID(id string) *worker {
	for _, w := range s.workers {
		if w.id == id {
			return w
		}
	}
	return nil
}

// fault does one bad thing.
func (s *sim) fault() {
	w := s.workers[s.rng.IntN(len(s.workers))]
	switch s.rng.IntN(8) {
	case 0, 1:
		if w.alive {
			w.alive = false
			if v := s.seen.Workers[w.id]; v != nil {
				v.Lost, v.LostReason = s.now, "killed"
			}
		}
	case 2:
		w.hung = true
	case 3:
		w.hung = false
	case 4, 5:
		if n := slices.IndexFunc(s.workers, func(w *worker) bool { return !w.alive }); n >= 0 {
			s.workers = slices.Delete(s.workers, n, n+1)
		}
		if len(s.workers) < 5 {
			s.join()
		}
	case 6:
		s.lead(s.seen.Timers, false)
	case 7:
		if v := s.seen.Workers[w.id]; v != nil && s.rng.IntN(3) == 0 {
			v.Leaving = "drained"
			w.alive = false
		}
	}
}

// finish drives the run to its end and returns how often workers acted.
func (s *sim) finish(faultEvery int) int {
	for i := range 400_000 {
		s.faults = faultEvery > 0 && i < 40_000
		if s.faults && s.rng.IntN(faultEvery) == 0 {
			s.fault()
		}
		if !slices.ContainsFunc(s.workers, func(w *worker) bool { return w.alive && !w.hung }) {
			s.join()
		}
		w := s.workers[s.rng.IntN(len(s.workers))]
		if w.alive && !w.hung {
			s.act(w)
		}
		if s.run() == nil {
			return i
		}
		s.deliver()
		s.now = s.now.Add(time.Duration(s.rng.IntN(20)) * time.Millisecond)
		s.think()
		if r := s.run(); r == nil || !r.State.Working() {
			return i
		}
	}
	s.t.Fatalf("the run does not end: %+v\nround %+v\nmembers %+v", s.run(), s.run().Round, s.state().Members)
	return 0
}

func (s *sim) checkLedger() {
	s.t.Helper()
	r := s.state().Runs[0]
	if r.State != fsm.Finished {
		s.t.Fatalf("run is %s: %s", r.State, r.Reason)
	}
	want := reference()
	if r.Committed() != steps {
		s.t.Fatalf("committed %d steps, want %d", r.Committed(), steps)
	}
	for step := range int64(steps) {
		rec := r.Ledger.At(step)
		if g := digest(step, slices.Repeat([]int{1}, shards)); rec.Gradient != g || rec.Parameters != want[step+1] {
			s.t.Errorf("step %d: gradient %s, parameters %s; want every shard once: %s, %s", step, rec.Gradient, rec.Parameters, g, want[step+1])
		}
		if step%5 == 4 && rec.Attempt != 1 {
			s.t.Errorf("step %d was committed in attempt %d, want 1: it overflows", step, rec.Attempt)
		}
	}
}
