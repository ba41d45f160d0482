// Package workertest is what tests of workers compute with: a trainer that costs nothing, its data, and a checkpoint
// store in memory. Only tests import it.
package workertest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

const (
	vocabulary = 23
	width      = 4
	queries    = 9 // of a batch, unless its Feed says otherwise
)

// Toy is a Trainer that costs nothing and whose every value depends on all values before it: embeddings on the
// parameters, gradients on all embeddings, the loss on both. Step is the page of package trainer, in miniature.
type Toy struct {
	Inflated  int64         // gradients of this step are beyond any bound that the history suggests
	Broken    int64         // gradients of this step are NaN; -1 = none
	Erratic   int64         // gradients of every so many steps are inflated; 0 = none
	Corrupt   int64         // the step whose update goes wrong; 0 = none
	Blind     bool          // the embeddings of shard 4 are not finite
	Language  bool          // no embeddings are gathered: a language objective
	Pause     time.Duration // per shard that is back-propagated
	Embedding time.Duration // per shard that is embedded
	Gate      func()        // called before each shard; nil = none
	// Touch may change the parameters when a step begins, as a fault of memory would; nil = none.
	Touch func(step int64, w []float32)
	// Smudge may change a shard's embeddings before they are shared, likewise; nil = none.
	Smudge func(step int64, shard int, rows []float32)
	// Flip may change a shard's gradient before it is rounded, as a fault of memory would; nil = none.
	Flip      func(step int64, shard int, g []float32)
	Corrected int // shards added or taken out after a closing

	w, m, v []float32 // [vocabulary*width]
	steps   int64
	maxima  []float32
	attempt int32
}

// NewToy returns a Toy with the initial parameters.
func NewToy() *Toy {
	r := rand.New(rand.NewPCG(1, 2))
	t := &Toy{Inflated: 3, Broken: -1}
	for range vocabulary * width {
		t.w, t.m, t.v = append(t.w, float32(r.NormFloat64())), append(t.m, 0), append(t.v, 0)
	}
	return t
}

// Width is the width of an embedding.
func (t *Toy) Width() int { return width }

// Size is the number of parameters.
func (t *Toy) Size() int { return len(t.w) }

// Steps returns the steps applied.
func (t *Toy) Steps() int64 { return t.steps }

// State returns a copy of the state.
func (t *Toy) State() trainer.State {
	return trainer.State{
		Step: t.steps, Parameters: slices.Clone(t.w), First: slices.Clone(t.m), Second: slices.Clone(t.v),
		Maxima: slices.Clone(t.maxima), Attempt: t.attempt,
	}
}

// Restore takes a state.
func (t *Toy) Restore(s trainer.State) error {
	if len(s.Parameters) != len(t.w) || len(s.First) != len(t.w) || len(s.Second) != len(t.w) {
		return fmt.Errorf("state of %d parameters, want %d", len(s.Parameters), len(t.w))
	}
	t.steps, t.maxima, t.attempt = s.Step, slices.Clone(s.Maxima), s.Attempt
	t.w, t.m, t.v = slices.Clone(s.Parameters), slices.Clone(s.First), slices.Clone(s.Second)
	return nil
}

// Digest is of the parameters and the moments.
func (t *Toy) Digest() string { return wire.DigestRows(nil, slices.Concat(t.w, t.m, t.v)) }

// Embed returns the rows [texts, width] of a shard.
func (t *Toy) Embed(shard *data.Shard) ([]float32, error) {
	if t.Blind && shard.Index == 4 {
		return nil, &trainer.NonFiniteError{Step: t.steps, Shard: shard.Index, What: "an embedding"}
	}
	t.work(t.Embedding)
	rows := make([]float32, len(shard.Texts)*width)
	for k, x := range shard.Texts {
		for _, id := range x.Tokens {
			for i := range width {
				rows[k*width+i] += t.w[int(id)*width+i]
			}
		}
	}
	return rows, nil
}

// work passes the time of a shard.
func (t *Toy) work(d time.Duration) {
	if t.Gate != nil {
		t.Gate()
	}
	if d > 0 {
		time.Sleep(d)
	}
}

// gradient of a shard given all rows [R, width].
func (t *Toy) gradient(step int64, shard *data.Shard, rows []float32) []float32 {
	mean := Score(rows) / max(1, float64(len(rows)))
	g := make([]float32, len(t.w))
	for _, x := range shard.Texts {
		for _, id := range x.Tokens {
			for i := range width {
				at := t.w[int(id)*width+i]
				if !t.Language {
					at = rows[int(x.Slot)*width+i]
				}
				g[int(id)*width+i] += float32(math.Tanh(float64(at)-mean)) + float32(x.Slot)*0.01
			}
		}
	}
	for i := range g {
		if step == t.Inflated || t.Erratic > 0 && step%t.Erratic == 0 {
			g[i] *= 1e6
		}
		if step == t.Broken {
			g[i] = float32(math.NaN())
		}
	}
	return g
}

// Step executes a step with the fleet.
func (t *Toy) Step(ctx context.Context, header data.Header, step int64, fleet trainer.Fleet) (trainer.Outcome, error) {
	none := trainer.Outcome{}
	if step != t.steps {
		return none, fmt.Errorf("step %d: the parameters are those after %d steps", step, t.steps)
	}
	if t.Touch != nil {
		t.Touch(step, t.w)
	}
	var rows []float32
	var err error
	if !t.Language {
		for shard, err := range fleet.Leased(ctx, trainer.Embed) {
			if err != nil {
				return none, err
			}
			rows, _ := t.Embed(shard)
			if t.Smudge != nil {
				t.Smudge(step, shard.Index, rows)
			}
			if err := fleet.Share(ctx, shard, rows); err != nil {
				return none, err
			}
		}
		if rows, err = fleet.Gather(ctx); err != nil {
			return none, err
		}
	}
	o := fixed.NewOffsets(len(t.w))
	shards, added := map[int]*data.Shard{}, map[int]bool{}
	var sum, total *fixed.Sum
	var try trainer.Attempt
	var closing trainer.Closing
	for again := trainer.ErrOverflow; again != nil; {
		if errors.Is(again, trainer.ErrOverflow) {
			if try, err = fleet.Attempt(ctx); err != nil {
				return none, err
			}
			sum, added = fixed.NewSum(fixed.Exponents(try.Maxima, 1, try.Shards), len(t.w)), map[int]bool{}
		}
		for shard, err := range fleet.Leased(ctx, trainer.Backward) {
			if err != nil {
				return none, err
			}
			digest, only := false, false
			if a, ok := fleet.(trainer.Auditor); ok {
				digest, only = a.Audit(shard.Index)
			}
			if added[shard.Index] && !only {
				return none, fmt.Errorf("shard %d was leased twice", shard.Index)
			}
			t.work(t.Pause)
			g := t.gradient(step, shard, rows)
			if t.Flip != nil {
				t.Flip(step, shard.Index, g)
			}
			done := trainer.Done{Shard: shard.Index, Maxima: make([]float32, 1), Tokens: shard.Tokens(), Seconds: 1e-3 + t.Pause.Seconds()}
			done.NonFinite = !fixed.Maxima(done.Maxima, g, o, nil)
			if t.Language {
				done.Loss = float64(done.Maxima[0]) / 3
			}
			if digest {
				done.Digest = fixed.DigestOf(g, o, sum.Exponents, nil)
			}
			if only {
				if !t.Language {
					done.Rows, _ = t.Embed(shard)
				}
				if _, err := fleet.Done(ctx, done); err != nil {
					return none, err
				}
				continue
			}
			shards[shard.Index] = shard
			accepted, err := fleet.Done(ctx, done)
			if err != nil {
				return none, err
			}
			if done.NonFinite {
				return none, &trainer.NonFiniteError{Step: step, Shard: shard.Index, What: "the gradient"}
			}
			if accepted {
				sum.Quantise(g, o, 1)
				added[shard.Index] = true
			}
		}
		if closing, again = fleet.Close(ctx); again == nil {
			for i, shard := range shards {
				named := slices.Contains(closing.Shards, i)
				if named != added[i] {
					sign := int64(1)
					if !named {
						sign = -1
					}
					sum.Quantise(t.gradient(step, shard, rows), o, sign)
					added[i] = named
					t.Corrected++
				}
			}
			total, again = fleet.Reduce(ctx, closing, sum)
		}
		if again != nil && !errors.Is(again, trainer.ErrOverflow) && !errors.Is(again, trainer.ErrReleased) {
			return none, again
		}
	}
	out, err := t.Apply(header, step, total, closing.Loss, closing.Maxima, try.Number)
	if !t.Language {
		out.Loss = Score(rows)
	}
	return out, err
}

// Apply updates the parameters with a total.
func (t *Toy) Apply(_ data.Header, step int64, total *fixed.Sum, loss float64, maxima []float32, attempt int32) (trainer.Outcome, error) {
	if step != t.steps || len(total.Values) != len(t.w) || len(maxima) != 1 {
		return trainer.Outcome{}, fmt.Errorf("apply step %d after %d, %d values, %d maxima", step, t.steps, len(total.Values), len(maxima))
	}
	g := make([]float32, len(t.w))
	total.Float(g, fixed.NewOffsets(len(g)))
	for i, x := range g {
		x = float32(math.Tanh(float64(x)))
		t.m[i] = float32(0.9*t.m[i]) + float32(0.1*x)
		t.v[i] += float32(x * x)
		t.w[i] -= float32(0.05 * t.m[i])
	}
	if t.Corrupt > 0 && step == t.Corrupt {
		t.w[7] += 1e-6
	}
	t.steps, t.maxima, t.attempt = step+1, slices.Clone(maxima), attempt
	return trainer.Outcome{Step: t.steps, Loss: loss, Gradient: total.Digest(nil), Parameters: t.Digest(), Maxima: maxima, Attempt: attempt}, nil
}

// Batch is the global batch of a step, or with step < 0 the texts of suite -1-step: pure in it.
func Batch(step int64) (data.Header, []data.Shard) { return batch(step, queries) }

// batch has as many shards as queries: of two texts each.
func batch(step int64, queries int) (data.Header, []data.Shard) {
	r := rand.New(rand.NewPCG(77, uint64(step)))
	h := data.Header{Step: step, Queries: queries, Negatives: make([]int32, queries), Slots: 2 * queries}
	var shards []data.Shard
	for slot := range 2 * queries {
		x := data.Text{Slot: int32(slot), Row: int64(slot), Doc: uint64(slot + 1)}
		if slot >= queries {
			x.Role = data.Positive
			h.Docs = append(h.Docs, x.Doc)
		}
		for range 1 + r.IntN(6) {
			x.Tokens = append(x.Tokens, int32(r.IntN(vocabulary)))
		}
		if slot%2 == 0 {
			shards = append(shards, data.Shard{Index: len(shards)})
		}
		last := &shards[len(shards)-1]
		last.Texts = append(last.Texts, x)
	}
	for i := range shards {
		h.Tokens = append(h.Tokens, int32(shards[i].Tokens()))
	}
	return h, shards
}

// Alone returns the outcomes of an undisturbed run without any fleet, and the scores of the suite by step.
func Alone(feed Feed, steps int64, change ...func(*Toy)) ([]trainer.Outcome, map[int64]float64, error) {
	tr := NewToy()
	for _, f := range change {
		f(tr)
	}
	var out []trainer.Outcome
	scores := map[int64]float64{0: SuiteScore(tr)}
	for step := range steps {
		h, shards := feed.batch(step)
		fleet := &solo{Toy: tr, shards: shards, rows: make([]float32, h.Slots*width), observed: tr.maxima}
		o, err := tr.Step(context.Background(), h, step, fleet)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, o)
		scores[step+1] = SuiteScore(tr)
	}
	return out, scores, nil
}

// solo is a trainer.Fleet of nobody else.
type solo struct {
	*Toy
	shards   []data.Shard
	rows     []float32
	try      int32
	base     []float32
	observed []float32
	loss     float64
}

func (s *solo) Leased(context.Context, trainer.Phase) iter.Seq2[*data.Shard, error] {
	return func(yield func(*data.Shard, error) bool) {
		for i := range s.shards {
			if !yield(&s.shards[i], nil) {
				return
			}
		}
	}
}

func (s *solo) Share(_ context.Context, shard *data.Shard, rows []float32) error {
	for k, x := range shard.Texts {
		copy(s.rows[int(x.Slot)*width:], rows[k*width:(k+1)*width])
	}
	return nil
}

func (s *solo) Gather(context.Context) ([]float32, error) { return s.rows, nil }

func (s *solo) Attempt(context.Context) (trainer.Attempt, error) {
	s.base, s.observed, s.loss = s.observed, make([]float32, 1), 0
	return trainer.Attempt{Number: s.try, Maxima: s.base, Shards: len(s.shards)}, nil
}

func (s *solo) Done(_ context.Context, d trainer.Done) (bool, error) {
	s.observed[0] = max(s.observed[0], d.Maxima[0])
	s.loss += d.Loss
	return true, nil
}

func (s *solo) Close(context.Context) (trainer.Closing, error) {
	if _, over := fixed.Exceeds(s.observed, fixed.Exponents(s.base, 1, len(s.shards)), len(s.shards)); over {
		s.try++
		return trainer.Closing{}, trainer.ErrOverflow
	}
	c := trainer.Closing{Number: 1, Maxima: s.observed, Loss: s.loss}
	for i := range s.shards {
		c.Shards = append(c.Shards, i)
	}
	return c, nil
}

func (s *solo) Reduce(_ context.Context, _ trainer.Closing, sum *fixed.Sum) (*fixed.Sum, error) {
	return sum, nil
}

// SuiteScore is the score of the suite under the parameters of tr.
func SuiteScore(tr *Toy) float64 {
	h, shards := Batch(-1)
	rows := make([]float32, h.Slots*width)
	for i := range shards {
		got, _ := tr.Embed(&shards[i])
		for k, x := range shards[i].Texts {
			copy(rows[int(x.Slot)*width:], got[k*width:(k+1)*width])
		}
	}
	return Score(rows)
}

// Score depends on every row and on its place.
func Score(rows []float32) float64 {
	s := 0.0
	for i, x := range rows {
		s += float64(x) * float64(i%7+1)
	}
	return s
}
