package coordinator_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// fleet is a number of fake workers that speak the real protocol over the real server. Their sums are sets of
// shards, their parameters a chain of hashes.
type fleet struct {
	t       testing.TB
	server  *bus.Server
	url     string // where server is nil
	failure time.Duration
	stopped sync.WaitGroup

	mu      sync.Mutex
	rng     *rand.Rand
	twice   bool // reports come twice
	sums    map[sumKey]map[int]bool
	saved   map[string]string // checkpoint path -> parameters
	states  map[string]memory // by worker id
	overAt  int64             // the first attempt of this step overflows; -1 = none
	nanAt   int64             // this step gives a NaN; -1 = none
	saveErr int               // so many checkpoints cannot be written
}

type sumKey struct {
	worker  string // and its run
	term    int64  // of what was reported; 0 = of the sum
	round   int64
	attempt int32
}

type memory struct {
	steps  int64
	params string
}

func newFleet(t testing.TB, server *bus.Server, failure time.Duration, seed uint64) *fleet {
	return &fleet{
		t: t, server: server, failure: failure, rng: rand.New(rand.NewPCG(seed, 3)), sums: map[sumKey]map[int]bool{},
		saved: map[string]string{}, states: map[string]memory{}, overAt: -1, nanAt: -1,
	}
}

func hash(a ...any) string {
	sum := sha256.Sum256(fmt.Append(nil, a...))
	return hex.EncodeToString(sum[:8])
}

// gradient is the digest of a step whose shards were counted counts[shard] times each.
func gradient(step int64, counts []int) string { return hash(step, counts) }

// reference returns the parameters after so many steps in which every shard counts once.
func reference(steps int64) []string {
	out := []string{"initial"}
	for step := range steps {
		counts := make([]int, len(tokensOf(step)))
		for i := range counts {
			counts[i] = 1
		}
		out = append(out, hash(out[step], gradient(step, counts)))
	}
	return out
}

// fake is one worker process.
type fake struct {
	*fleet
	name   string
	conn   *bus.Conn
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	id    string
	run   string
	round *wire.Round
	hung  bool
	news  chan struct{}

	have    memory
	applied *wire.Applied
	copies  map[int64]string
	parked  map[string]memory // by run
	labels  []string
}

// start starts a worker; kill ends it as kill -9 does.
func (f *fleet) start(name string, labels ...string) *fake {
	conn, err := bus.Connect(f.t.Context(), bus.Options{Server: f.server, URL: f.url, Name: name, FailureTimeout: f.failure, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &fake{fleet: f, name: name, conn: conn, ctx: ctx, cancel: cancel, news: make(chan struct{}, 1), have: memory{steps: -1}, copies: map[int64]string{}, parked: map[string]memory{}, labels: labels}
	f.stopped.Go(w.live)
	return w
}

func (w *fake) kill() {
	w.cancel()
	w.conn.Close()
}

func (w *fake) hang(yes bool) {
	w.mu.Lock()
	w.hung = yes
	w.mu.Unlock()
}

func (w *fake) live() {
	defer w.conn.Close()
	for life := 0; w.ctx.Err() == nil; life++ {
		w.mu.Lock()
		w.id, w.round, w.applied = fmt.Sprintf("%s-%d", w.name, life), nil, nil
		w.mu.Unlock()
		welcome, err := ask[wire.Welcome](w, wire.HelloSubject, &wire.Hello{Worker: w.id, Name: w.name, Connection: w.name, ProtocolMin: 1, ProtocolMax: 2, Numerics: "fake", Labels: w.labels})
		if err != nil || welcome.Refused != "" {
			pause(w.ctx, 5*time.Millisecond)
			continue
		}
		for next, known := welcome.Run, true; known && w.ctx.Err() == nil; {
			w.turn(next)
			next, known = w.engage()
		}
	}
}

// turn changes the worker's run; nil = none. What it has of one it keeps.
func (w *fake) turn(next *wire.RunInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := ""
	if next != nil {
		id = next.ID
	}
	if w.run == id {
		return
	}
	w.parked[w.run] = w.have
	have, ok := w.parked[id]
	if !ok {
		have = memory{steps: -1}
	}
	w.run, w.have, w.round, w.applied, w.copies = id, have, nil, nil, map[int64]string{}
}

// engage works on the run until the coordinator has another one for the worker, or none, or does not know it.
func (w *fake) engage() (next *wire.RunInfo, known bool) {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	if w.run == "" {
		return w.beats(ctx)
	}
	sub, err := bus.Subscribe(w.conn, wire.RoundSubject(w.run), w.offer)
	if err != nil {
		return nil, false
	}
	defer sub.Unsubscribe()
	var beats sync.WaitGroup
	beats.Go(func() { defer cancel(); next, known = w.beats(ctx) })
	w.work(ctx)
	cancel()
	beats.Wait()
	return next, known
}

// ask repeats nothing: the loops do.
func ask[Reply any](w *fake, subject string, m any) (*Reply, error) {
	ctx, cancel := context.WithTimeout(w.ctx, w.failure)
	defer cancel()
	return bus.Request[Reply](ctx, w.conn, subject, m)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (w *fake) offer(r *wire.Round) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Run == w.run && (w.round == nil || r.Revision > w.round.Revision) {
		w.round = r
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
}

// beats beats until the coordinator no longer knows the worker, or knows another run for it.
func (w *fake) beats(ctx context.Context) (next *wire.RunInfo, known bool) {
	for ; ctx.Err() == nil; pause(ctx, w.failure/5) {
		w.mu.Lock()
		hung, m := w.hung, &wire.Beat{Worker: w.id, Run: w.run, State: w.have.steps, Parameters: w.have.params, Size: 1000}
		if w.round != nil {
			m.Revision = w.round.Revision
		}
		w.mu.Unlock()
		if hung {
			continue
		}
		p, err := ask[wire.Pulse](w, wire.BeatSubject, m)
		if err != nil {
			continue
		}
		if !p.Known || p.Idle || p.Run != nil {
			return p.Run, p.Known
		}
		if p.Round != nil {
			w.offer(p.Round)
		}
	}
	return nil, true
}

func (w *fake) work(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		r, hung := w.round, w.hung
		w.mu.Unlock()
		if r == nil || hung || !w.act(r) {
			select {
			case <-w.news:
			case <-ctx.Done():
			case <-time.After(w.failure / 10):
			}
		}
	}
}

func (w *fake) set(m memory) {
	w.mu.Lock()
	w.have = m
	w.mu.Unlock()
	w.fleet.mu.Lock()
	w.states[w.id+" "+w.run] = m
	w.fleet.mu.Unlock()
}

// act does the next thing that r asks for and reports whether there may be more.
func (w *fake) act(r *wire.Round) bool {
	if r.State != wire.Running && r.State != wire.Stopping {
		return false
	}
	if r.Save != nil && r.Save.Step == w.have.steps {
		w.copies[r.Save.Step] = w.have.params
	}
	if r.Save != nil && r.Save.Worker == w.id {
		w.save(r.Save)
	}
	var me *wire.Member
	for i := range r.Members {
		if r.Members[i].Worker == w.id {
			me = &r.Members[i]
		}
	}
	if me == nil {
		return false
	}
	if me.Behind && w.have.steps != r.Step && (w.applied == nil || w.have.steps != r.Step+1) {
		w.fleet.mu.Lock()
		peer, ok := w.states[me.Peer+" "+w.run]
		params := w.saved[r.Resume]
		w.fleet.mu.Unlock()
		switch {
		case me.Peer != "" && ok:
			w.set(peer)
		case me.Peer == "" && r.Load && r.Resume == "":
			w.set(memory{0, "initial"})
		case me.Peer == "" && r.Load:
			w.set(memory{r.Step, params})
		}
		return false
	}
	switch {
	case r.Kind == wire.Evaluate:
		return w.evaluate(r)
	case r.Kind != wire.Train:
		return false
	case w.applied != nil && w.applied.Round == r.Number && w.applied.Attempt == r.Attempt:
		_, _ = ask[wire.Verdict](w, wire.AppliedSubject(w.run), w.applied)
		return false
	case w.have.steps != r.Step:
		return false
	case r.Closing != nil:
		return w.reduce(r)
	case me.Behind:
		return false
	}
	return w.compute(r)
}

func (w *fake) save(s *wire.Save) {
	m := &wire.Saved{Run: w.run, Step: s.Step, Worker: w.id, Path: fmt.Sprintf("%s/step-%d-%s", w.run, s.Step, w.id), Manifest: "m"}
	w.fleet.mu.Lock()
	params, ok := w.copies[s.Step]
	if w.saved[m.Path] = params; !ok || w.saveErr > 0 {
		m.Err = "no space left on device"
		w.saveErr--
	}
	w.fleet.mu.Unlock()
	_, _ = ask[wire.Verdict](w, wire.SavedSubject(w.run), m)
}

// held returns the shards that the worker holds and f does not know yet.
func (w *fake) held(r *wire.Round, f func(int) bool) (shard int, epoch int64, ok bool) {
	for _, l := range r.Leases {
		for shard := l.Lo; l.Worker == w.id && shard < l.Hi; shard++ {
			if !f(shard) {
				return shard, l.Epoch, true
			}
		}
	}
	return 0, 0, false
}

func (w *fake) report(m *wire.Report) bool {
	w.fleet.mu.Lock()
	twice := w.twice && w.rng.IntN(3) == 0
	w.fleet.mu.Unlock()
	v, err := ask[wire.Verdict](w, wire.ReportSubject(w.run), m)
	if err == nil && twice {
		v, err = ask[wire.Verdict](w, wire.ReportSubject(w.run), m)
	}
	return err == nil && v.Accepted
}

func inside(ranges []wire.Range, shard int) bool {
	for _, r := range ranges {
		if shard >= r.Lo && shard < r.Hi {
			return true
		}
	}
	return false
}

func (w *fake) compute(r *wire.Round) bool {
	m := &wire.Report{Run: w.run, Round: r.Number, Attempt: r.Attempt, Worker: w.id, Maxima: []float32{1, 2}, Seconds: 1e-4}
	if shard, epoch, ok := w.held(r, func(s int) bool { return inside(r.Embedded, s) || w.reported(r, 1, s) }); ok {
		m.Phase, m.Shard, m.Epoch, m.Tokens, m.Digest = 1, shard, epoch, int(tokensOf(r.Step)[shard]), hash(r.Step, shard)
		if w.report(m) {
			w.mark(r, 1, shard)
		}
		return w.newest(r)
	}
	if !(len(r.Embedded) == 1 && r.Embedded[0] == wire.Range{Lo: 0, Hi: r.Shards}) {
		return false
	}
	if shard, epoch, ok := w.held(r, func(s int) bool { return w.reported(r, 2, s) }); ok {
		m.Phase, m.Shard, m.Epoch, m.Tokens = 2, shard, epoch, int(tokensOf(r.Step)[shard])
		m.Overflow = r.Step == w.overAt && r.Attempt == 0 && shard == 1
		m.NonFinite = r.Step == w.nanAt && shard == 1
		if w.report(m) {
			w.mark(r, 2, shard)
		}
		return w.newest(r)
	}
	return false
}

// newest reports whether r still is the newest round.
func (w *fake) newest(r *wire.Round) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.round == r
}

func (w *fake) key(r *wire.Round, phase int) sumKey {
	k := sumKey{worker: w.id + " " + w.run, round: r.Number, attempt: r.Attempt}
	if phase == 1 {
		k.attempt = -1
	}
	return k
}

func (w *fake) reported(r *wire.Round, phase, shard int) bool {
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	k := w.key(r, phase)
	k.term = r.Term() // a new leader has heard of nothing
	return w.sums[k][shard]
}

func (w *fake) mark(r *wire.Round, phase, shard int) {
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	for _, term := range []int64{0, r.Term()} {
		k := w.key(r, phase)
		if k.term = term; w.sums[k] == nil {
			w.sums[k] = map[int]bool{}
		}
		w.sums[k][shard] = true
	}
}

// reduce applies the step under the closing.
func (w *fake) reduce(r *wire.Round) bool {
	counts := make([]int, r.Shards)
	w.fleet.mu.Lock()
	for _, c := range r.Closing.Cover {
		for _, s := range c.Shards {
			for shard := s.Lo; shard < s.Hi; shard++ {
				if w.sums[sumKey{worker: c.Worker + " " + w.run, round: r.Number, attempt: r.Attempt}][shard] {
					counts[shard]++
				}
			}
		}
	}
	w.fleet.mu.Unlock()
	if r.Closing.Complete { // what the owners have is the sum over all shards
		for i := range counts {
			counts[i] = 1
		}
	}
	if slices.Contains(counts, 0) { // a named worker has not heard its verdict yet
		pause(w.ctx, time.Millisecond)
		return w.newest(r)
	}
	g := gradient(r.Step, counts)
	next := memory{r.Step + 1, hash(w.have.params, g)}
	w.applied = &wire.Applied{
		Run: w.run, Round: r.Number, Step: r.Step, Closing: r.Closing.Number, Attempt: r.Attempt, Worker: w.id,
		Gradient: g, Parameters: next.params, Loss: 1 / float64(r.Step+1), Norm: 1, Rate: 1e-3,
	}
	w.set(next)
	return true
}

func (w *fake) evaluate(r *wire.Round) bool {
	if w.have.steps != r.Step {
		return false
	}
	if r.Scorer == w.id {
		_, _ = ask[wire.Verdict](w, wire.ScoredSubject(w.run), &wire.Scored{
			Run: w.run, Round: r.Number, Step: r.Step, Suite: r.Suite, Worker: w.id, Metrics: map[string]float64{"ndcg@10": 0.1},
		})
		return false
	}
	m := &wire.Report{Run: w.run, Round: r.Number, Phase: 1, Worker: w.id}
	shard, epoch, ok := w.held(r, func(s int) bool { return inside(r.Embedded, s) || w.reported(r, 1, s) })
	if ok {
		if m.Shard, m.Epoch = shard, epoch; w.report(m) {
			w.mark(r, 1, shard)
		}
		return w.newest(r)
	}
	return false
}
