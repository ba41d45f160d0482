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

// reference returns the digests of a run's parameters after 0..steps steps.
func reference(run string) []string {
	out := []string{"initial " + run}
	for step := range int64(steps) {
		out = append(out, params(out[step], digest(step, slices.Repeat([]int{1}, shards))))
	}
	return out
}

type worker struct {
	id     string
	alive  bool
	hung   bool
	wrong  bool // its memory is bad
	labels []string

	run string // whose job it has; another's is kept in parked, as a process does
	job
	parked map[string]job
}

// job is what a worker has of a run.
type job struct {
	state   int64
	params  string
	sum     map[int]bool // shards of (round, attempt) that are in its sum
	round   int64
	attempt int32
	applied *plan.Applied
	copies  map[int64]string // checkpoint copies by step
}

func newJob() job { return job{state: -1, copies: map[int64]string{}} }

// turn changes a worker's run: sums go, parameters stay for when it comes back.
func (w *worker) turn(run string) {
	if w.run == run || run == "" {
		return
	}
	w.parked[w.run] = w.job
	if j, ok := w.parked[run]; ok {
		w.job = j
	} else {
		w.job = newJob()
	}
	w.run, w.round, w.sum, w.applied = run, 0, nil, nil
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
	each    func(i int)       // called between two looks; may be nil
	smudged int               // shard+1 whose embeddings auditors find to be others
}

func newSim(t *testing.T, seed uint64, settings fsm.Settings) *sim {
	timers, err := plan.NewTimers(failure)
	if err != nil {
		t.Fatal(err)
	}
	s := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 7)), machine: fsm.NewMachine(), now: time.Unix(1_700_000_000, 0), saved: map[string]string{}}
	s.lead(timers, true)
	s.submit("r", 0, settings)
	return s
}

// submit adds a run.
func (s *sim) submit(id string, priority int, settings fsm.Settings) {
	s.propose(&fsm.Submit{ID: id, Name: id, Steps: steps, Settings: settings, Priority: priority})
	s.ready()
}

// ready hosts all runs.
func (s *sim) ready() {
	for _, r := range s.state().Runs {
		s.seen.Run(r.ID).Ready = true
	}
}

// lead begins a new leader's term: it knows the log and nothing else.
func (s *sim) lead(timers plan.Timers, alone bool) {
	s.seen = &plan.Seen{Timers: timers, Since: s.now, Alone: alone, Workers: map[string]*plan.Worker{}}
	for _, r := range s.state().Runs {
		if v := s.seen.Run(r.ID); !alone {
			v.Wait = s.now.Add(timers.Grace)
		}
	}
	s.ready()
	s.turn()
	for _, w := range s.workers { // the term changed: reports are sent again
		if r := s.state().Run(w.run); w.alive && r != nil && r.Round != nil && w.round == r.Round.Number {
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

// run is the first run unless it is over; most tests have one.
func (s *sim) run() *fsm.Run {
	if r := s.state().Run("r"); r != nil && !r.State.Over() {
		return r
	}
	return nil
}

// of is what is known of the first run.
func (s *sim) of() *plan.RunSeen { return s.seen.Run("r") }

// open lists the runs that are not over.
func (s *sim) open() (out []*fsm.Run) {
	for _, r := range s.state().Runs {
		if !r.State.Over() {
			out = append(out, r)
		}
	}
	return out
}

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
	for _, r := range s.open() {
		s.seen.Run(r.ID).Turn(r.Round)
	}
}

// think is the leader's loop: prepare, plan, propose.
func (s *sim) think() {
	for range 20 {
		s.turn()
		for _, r := range s.open() {
			v := s.seen.Run(r.ID)
			for _, f := range []func(*fsm.Run) (plan.Work, bool){plan.Next, plan.After} {
				if w, ok := f(r); ok {
					v.Shapes[w] = plan.Shape{Tokens: []int32{9, 9, 8, 7, 7, 5, 3}, Gather: true}
				}
			}
			if m := plan.Candidate(r); m != nil {
				if _, known := v.Verified[m.Path]; !known {
					v.Verified[m.Path] = ""
				}
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
	s.t.Fatalf("the plan does not come to rest: %+v", s.open())
}

func (s *sim) join(labels ...string) *worker {
	w := &worker{alive: true, labels: labels, run: "r", job: newJob(), parked: map[string]job{}}
	s.workers = append(s.workers, w)
	s.hello(w)
	return w
}

func (s *sim) hello(w *worker) {
	s.names++
	w.id, w.round, w.sum, w.applied = fmt.Sprintf("w%d", s.names), 0, nil, nil
	s.seen.Workers[w.id] = &plan.Worker{Heard: s.now, State: -1}
	s.propose(&fsm.Join{Worker: w.id, Name: w.id, Numerics: "k", Labels: w.labels})
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
	run := w.run
	r := s.state().Run(run).Round
	lease, _ := r.Holder(shard)
	round, attempt, id := r.Number, r.Attempt, w.id
	// The first attempt of every fifth step overflows in one shard.
	overflow := phase == plan.Backward && r.Step%5 == 4 && attempt == 0 && shard == 2
	rep := &plan.Report{Worker: id, Epoch: lease.Epoch, Maxima: []float32{float32(shard), 1}, Tokens: 10, Overflow: overflow}
	s.send(func(s *sim) {
		if s.seen.Run(run).Accept(s.state(), s.state().Run(run), round, attempt, phase, shard, rep) && phase == plan.Backward && w.id == id && w.run == run && w.round == round && w.attempt == attempt {
			w.sum[shard] = true
		}
	})
}

func (s *sim) sendApplied(w *worker) {
	run, round, attempt, id, a := w.run, w.round, w.attempt, w.id, *w.applied
	state := w.state
	s.send(func(s *sim) {
		r, m := s.state().Run(run), s.state().Member(id)
		if r.Round != nil && r.Round.Number == round && r.Round.Attempt == attempt && m != nil && m.Run == run {
			s.seen.Run(run).Applied[id] = a
		}
		if v := s.seen.Workers[id]; v != nil && v.Run == run && state > v.State {
			v.State, v.Parameters = state, a.Parameters
		}
	})
}

// act lets a worker do one thing that the newest round asks for.
func (s *sim) act(w *worker) {
	m := s.state().Member(w.id)
	if m == nil { // a beat said so: it drops its sums and says hello again
		s.hello(w)
		return
	}
	if s.seen.Workers[w.id] == nil {
		s.seen.Workers[w.id] = &plan.Worker{}
	}
	w.turn(m.Run)
	v := s.seen.Workers[w.id]
	v.Heard, v.Run, v.State, v.Parameters, v.Size = s.now, w.run, w.state, w.params, 100
	r := s.state().Run(m.Run)
	if r == nil || r.State.Over() {
		return
	}
	if r.Save != nil && w.state == r.Save.Step && (r.Save.Worker == w.id || r.Save.Standby == w.id) {
		w.copies[r.Save.Step] = w.params
	}
	if r.Save != nil && r.Save.Worker == w.id && s.rng.IntN(3) == 0 {
		saved := &plan.Saved{Step: r.Save.Step, Worker: w.id, Path: fmt.Sprintf("/%s/step-%d-%s", r.ID, r.Save.Step, w.id), Err: "no copy"}
		if p, ok := w.copies[r.Save.Step]; ok {
			saved.Err = ""
			s.saved[saved.Path] = p
		}
		run := r.ID
		s.send(func(s *sim) { s.seen.Run(run).Saved = saved })
	}
	if m.Behind {
		switch peer := s.byID(m.Peer); {
		case peer != nil && peer.alive && peer.run == w.run && w.state != r.Cursor && (w.state < r.Cursor || w.state > r.Cursor+1):
			w.state, w.params = peer.state, peer.params
		case m.Peer == "" && plan.MayLoad(s.state(), r, s.seen.Run(r.ID)) && w.state != r.Cursor:
			w.state, w.params = r.Resume.Step, "initial "+r.ID
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
	embedded, v := 0, s.seen.Run(w.run)
	for _, e := range v.EmbeddedRanges() {
		embedded += e.Hi - e.Lo
	}
	for _, shard := range s.rng.Perm(shards) {
		l, _ := r.Holder(shard)
		switch {
		case l.Worker != w.id:
		case v.Embedded[shard] == nil:
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
		if owner == nil || !owner.alive || owner.run != w.run || owner.applied == nil {
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
			if from == nil || !from.alive || from.run != w.run || from.round != r.Number || from.attempt != r.Attempt {
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
		run, number, id, step := w.run, r.Number, w.id, r.Step
		s.send(func(s *sim) {
			if v := s.seen.Run(run); v.Round == number {
				v.Scored = &plan.Scored{Worker: id, Metrics: map[string]float64{"ndcg@10": float64(step % 7)}}
			}
		})
		return
	}
	for _, shard := range s.rng.Perm(shards) {
		if l, _ := r.Holder(shard); l.Worker == w.id && s.seen.Run(w.run).Embedded[shard] == nil {
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
			s.join("any")
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

// finish drives the runs to their ends and returns how often workers acted.
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
		s.deliver()
		s.now = s.now.Add(time.Duration(s.rng.IntN(20)) * time.Millisecond)
		if s.each != nil {
			s.each(i)
		}
		s.think()
		if !slices.ContainsFunc(s.state().Runs, func(r *fsm.Run) bool { return r.State.Working() }) {
			return i
		}
	}
	for _, r := range s.open() {
		s.t.Logf("the run does not end: %+v\nround %+v", r, r.Round)
	}
	s.t.Fatalf("members %+v", s.state().Members)
	return 0
}

func (s *sim) checkLedger() {
	s.t.Helper()
	for _, r := range s.state().Runs {
		s.checkRun(r)
	}
}

// checkRun compares a finished run's ledger with the undisturbed one: every shard of every step once.
func (s *sim) checkRun(r *fsm.Run) {
	s.t.Helper()
	if r.State != fsm.Finished {
		s.t.Fatalf("run %s is %s: %s", r.ID, r.State, r.Reason)
	}
	want := reference(r.ID)
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
