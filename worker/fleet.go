package worker

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// fleet is a round as the trainer sees it: a trainer.Fleet. It lives as long as the step.
type fleet struct {
	*session
	j      *job
	number int64
	kind   wire.Kind
	step   int64
	suite  int
	header data.Header
	ledger *ledger

	gathered atomic.Bool // phase A is behind the trainer

	mu      sync.Mutex
	attempt int32
	maxima  []float32 // that the attempt's exponents come from
	shards  int
	begun   map[work]int64 // shards that the trainer was given, and under which lease epoch
	refused map[work]refusal
	closed  int32       // number of the closing that Reduce succeeded under
	audit   *data.Shard // that the trainer computes for its digest alone; nil = none
}

// refusal is the lease epoch under which a report was refused. The shard is begun again under a newer lease, or when
// the round still says that it is this worker's after a while.
type refusal struct {
	epoch int64
	at    time.Time
}

// work is a phase of a shard.
type work struct {
	phase trainer.Phase
	shard int
}

var _ trainer.Fleet = (*fleet)(nil)

func newFleet(s *session, j *job, r *wire.Round, header data.Header) *fleet {
	return &fleet{
		session: s, j: j, number: r.Number, kind: r.Kind, step: r.Step, suite: r.Suite, header: header, attempt: r.Attempt,
		ledger: newLedger(s, r), begun: map[work]int64{}, refused: map[work]refusal{},
	}
}

// start runs what goes on beside the step: reports that need no waiting, and rows that were missed. stop ends it.
func (f *fleet) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { f.ledger.keep(ctx, f) })
	return func() {
		cancel()
		beside.Wait()
		f.j.lack(nil)
	}
}

// closing returns the number of the closing that the step ended under.
func (f *fleet) closing() int32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// now returns the newest revision of the fleet's round.
func (f *fleet) now(ctx context.Context) (*wire.Round, <-chan struct{}, error) {
	r, changed := f.view.now()
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	if r.Number != f.number || r.Kind != f.kind { // the watcher of the round's context is about to see it
		<-ctx.Done()
		return nil, nil, context.Cause(ctx)
	}
	return r, changed, nil
}

// Attempt implements trainer.Fleet. A newer attempt starts phase C from nothing.
func (f *fleet) Attempt(ctx context.Context) (trainer.Attempt, error) {
	r, _, err := f.now(ctx)
	if err != nil {
		return trainer.Attempt{}, err
	}
	f.enter(r)
	return trainer.Attempt{Number: r.Attempt, Maxima: r.Maxima, Shards: r.Shards}, nil
}

// enter forgets phase C of older attempts.
func (f *fleet) enter(r *wire.Round) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.maxima, f.shards = r.Maxima, r.Shards
	if r.Attempt == f.attempt {
		return
	}
	f.attempt = r.Attempt
	maps.DeleteFunc(f.begun, func(w work, _ int64) bool { return w.phase == trainer.Backward || w.phase == trainer.Audit })
	maps.DeleteFunc(f.refused, func(w work, _ refusal) bool { return w.phase == trainer.Backward })
	f.ledger.forget(trainer.Backward)
	f.ledger.forget(trainer.Audit)
}

// Leased implements trainer.Fleet. The shards after the one yielded are fetched while the trainer computes.
func (f *fleet) Leased(ctx context.Context, phase trainer.Phase) iter.Seq2[*data.Shard, error] {
	return func(yield func(*data.Shard, error) bool) {
		for {
			rows := f.j.board.changed()
			r, changed, err := f.now(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			if next := f.next(r, phase); len(next) > 0 {
				shard, err := f.j.shelf.shard(ctx, f.request(), next, f.header.Tokens)
				if err == nil {
					f.j.shelf.ahead(ctx, f.request(), next[1:], f.header.Tokens)
					f.begin(r, phase, next[0])
				}
				if !yield(shard, err) || err != nil {
					return
				}
				continue
			}
			if second := f.second(r, phase); second >= 0 {
				shard, err := f.j.shelf.shard(ctx, f.request(), []int{second}, f.header.Tokens)
				if err == nil {
					f.auditing(shard)
				}
				if !yield(shard, err) || err != nil {
					return
				}
				continue
			}
			if f.accounted(r, phase) {
				return
			}
			f.lookAhead(r, phase)
			t := time.NewTimer(f.timeout)
			select {
			case <-changed:
			case <-rows:
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
		}
	}
}

// next lists the shards that this worker holds for the phase and has not begun, in the order of its leases.
func (f *fleet) next(r *wire.Round, phase trainer.Phase) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if phase == trainer.Backward && (r.Closing != nil || r.Attempt != f.attempt) {
		return nil
	}
	embedded := covered(r.Embedded, r.Shards)
	var out []int
	for _, l := range r.Leases {
		if l.Worker != f.id {
			continue
		}
		for shard := l.Lo; shard < min(l.Hi, r.Shards); shard++ {
			w := work{phase, shard}
			if _, begun := f.begun[w]; begun {
				continue
			}
			if x, refused := f.refused[w]; refused && l.Epoch <= x.epoch && time.Since(x.at) < 2*f.timeout {
				continue
			}
			if phase == trainer.Embed && embedded[shard] {
				continue
			}
			out = append(out, shard)
		}
	}
	return out
}

// begin notes that the trainer has a shard, and the epoch of its lease.
func (f *fleet) begin(r *wire.Round, phase trainer.Phase, shard int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun[work{phase, shard}] = epoch(r, f.id, shard)
}

// epoch returns the epoch of a worker's lease of a shard, 0 if it has none.
func epoch(r *wire.Round, worker string, shard int) int64 {
	for _, l := range r.Leases {
		if l.Worker == worker && shard >= l.Lo && shard < l.Hi {
			return l.Epoch
		}
	}
	return 0
}

// accounted reports whether a phase is over for this worker. A training step goes on only with all rows: until then
// the worker may be asked to embed more.
func (f *fleet) accounted(r *wire.Round, phase trainer.Phase) bool {
	if phase == trainer.Backward {
		f.mu.Lock()
		defer f.mu.Unlock()
		return r.Closing != nil || r.Attempt != f.attempt
	}
	return !slices.Contains(covered(r.Embedded, r.Shards), false) && (f.kind == wire.Evaluate || f.j.board.complete(f.number, r.Shards))
}

// lookAhead uses the wait for the others: it fetches the texts of the next step's shards that this worker is likely to hold.
func (f *fleet) lookAhead(r *wire.Round, phase trainer.Phase) {
	if f.kind != wire.Train || phase != trainer.Backward {
		return
	}
	var likely []int
	for _, l := range r.Leases {
		for shard := l.Lo; shard < l.Hi && l.Worker == f.id && len(likely) < 8; shard++ {
			likely = append(likely, shard)
		}
	}
	req := f.request()
	req.Step++
	f.j.shelf.guess(req, likely)
}

func (f *fleet) request() wire.ShardRequest {
	return wire.ShardRequest{Run: f.j.run.ID, Round: f.number, Kind: f.kind, Step: f.step, Suite: f.suite}
}

// Share implements trainer.Fleet: rows go to the others first and the report after, so that an embedded shard's
// rows exist somewhere.
func (f *fleet) Share(ctx context.Context, shard *data.Shard, rows []float32) error {
	r, _, err := f.now(ctx)
	if err != nil {
		return err
	}
	parts := split(f.j.run.ID, f.number, f.id, shard, rows)
	for _, m := range parts {
		f.j.board.add(m)
	}
	if len(others(r, f.id)) > 0 {
		for _, m := range parts {
			if err := f.Link.Publish(ctx, m); err != nil && ctx.Err() == nil {
				f.log.Debug("rows not published; the others will ask", "shard", shard.Index, "err", err)
			}
		}
	}
	f.ledger.add(wire.Report{
		Phase: uint8(trainer.Embed), Shard: shard.Index, Tokens: shard.Tokens(), Digest: wire.DigestRows(slotsOf(shard), rows),
		Epoch: f.epochOf(trainer.Embed, shard.Index),
	})
	return nil
}

// adopt reports shards that are leased to this worker for phase A after it has gathered all rows: their worker is
// gone, but their rows are here, so nothing is computed again.
func (f *fleet) adopt(ctx context.Context, r *wire.Round) {
	if !f.gathered.Load() || f.kind != wire.Train || r.Closing != nil {
		return
	}
	for _, i := range f.next(r, trainer.Embed) {
		shard, err := f.j.shelf.shard(ctx, f.request(), []int{i}, f.header.Tokens)
		if err != nil {
			return
		}
		rows := f.j.board.shard(f.number, shard)
		if rows == nil {
			continue
		}
		f.begin(r, trainer.Embed, i)
		if err := f.Share(ctx, shard, rows); err != nil {
			return
		}
	}
}

func (f *fleet) epochOf(phase trainer.Phase, shard int) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun[work{phase, shard}]
}

// Gather implements trainer.Fleet.
func (f *fleet) Gather(ctx context.Context) ([]float32, error) {
	for {
		changed := f.j.board.changed()
		r, _, err := f.now(ctx)
		if err != nil {
			return nil, err
		}
		if f.j.board.complete(f.number, r.Shards) {
			f.gathered.Store(true)
			return f.j.board.gather(f.number, f.header.Slots)
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
