package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

// Trainer holds the trainable parameters, the optimizer and the model of one worker. Its methods are called from one
// goroutine at a time.
type Trainer struct {
	config  Config
	model   model
	loss    *contrastive.Loss // nil for a language objective
	pool    *pool.Pool
	keep    int64
	params  []backbone.Param
	offsets fixed.Offsets

	optimizer *optim.AdamW
	steps     int64     // applied
	maxima    []float32 // committed with step steps-1
	tries     int32     // attempt committed with it

	grad  []float32  // [P] of one shard; the model's own memory where the host sees that
	spare *fixed.Sum // reused from step to step

	base       *backbone.Base // of the frozen weights; nil in tests
	subtracted int            // shards computed again only to be taken out of a sum
}

// Options are what a worker decides for itself: they do not show in any result.
type Options struct {
	// Keep is the memory in bytes for activations that phase C takes over from phase A. Shards beyond it are
	// computed a second time; the bits are the same. 0 keeps none.
	Keep int64
	// Pool runs loops over parameters; nil means the device's own, if it has one.
	Pool *pool.Pool
}

// New makes the model of a run on a device, from the weights of base (backbone.Load of config.Model), and its
// trainer. Step 0 begins with the initial parameters: a function of base and config alone.
func New(config Config, base *backbone.Base, dev engine.Device, o Options) (*Trainer, error) {
	m, err := backbone.New(base, dev, config.Model, backbone.Options{
		Head: !config.Loss.Embeds(), Raw: config.Loss.Kind == contrastive.ExplicitKind, Seed: config.Seed,
	})
	if err != nil {
		return nil, err
	}
	if m.Architecture().Shift {
		config.Loss.Shift = true // the family's head predicts the next token, masked or not
	}
	if d, ok := dev.(interface{ Pool() *pool.Pool }); ok && o.Pool == nil {
		o.Pool = d.Pool()
	}
	t, err := newTrainer(config, network{m}, dev, o)
	if err != nil {
		return nil, err
	}
	t.base = base
	return t, nil
}

func newTrainer(config Config, m model, dev engine.Device, o Options) (*Trainer, error) {
	switch l := config.Loss; l.Kind {
	case contrastive.InfoNCEKind, contrastive.ExplicitKind:
		if err := l.Check(m.Width()); err != nil {
			return nil, err
		}
	case contrastive.MaskedDiffusion, contrastive.MNTP:
		if l.MaskID == nil && m.MaskToken() < 0 {
			return nil, fmt.Errorf("loss.mask_token: the model's config.json names no mask_token_id; %s needs a token of the vocabulary that stands for a masked one, such as _", l.Kind)
		}
	case contrastive.CausalLM:
	default:
		return nil, fmt.Errorf("loss.kind: %q, want %s, %s, %s, %s or %s", l.Kind, contrastive.InfoNCEKind, contrastive.ExplicitKind,
			contrastive.MaskedDiffusion, contrastive.MNTP, contrastive.CausalLM)
	}
	t := &Trainer{config: config, model: m, pool: o.Pool, keep: o.Keep, params: m.Params()}
	if config.Loss.Embeds() {
		t.loss = contrastive.NewLoss(dev, config.Loss.Options())
	}
	var decay []bool
	t.offsets, decay = layout(t.params)
	w := m.Parameters()
	if t.offsets.Size() != len(w) {
		return nil, fmt.Errorf("model has %d trainable values, its tensors %d", len(w), t.offsets.Size())
	}
	t.optimizer = optim.New(config.Optimizer, config.Steps, w, t.offsets, decay, o.Pool.For)
	if m, ok := m.(interface{ Gradient() []float32 }); ok {
		t.grad = m.Gradient()
	}
	if t.grad == nil {
		t.grad = make([]float32, len(w))
	}
	t.spare = fixed.NewSum(make([]int32, len(t.params)), len(w))
	return t, nil
}

// Apply updates the parameters with the total of a step that others computed: a follower's step. maxima and attempt
// are those committed with it, loss is the committed one.
func (t *Trainer) Apply(header data.Header, step int64, total *fixed.Sum, loss float64, maxima []float32, attempt int32) (Outcome, error) {
	if step != t.steps {
		return Outcome{}, fmt.Errorf("apply step %d: the parameters are those after %d steps", step, t.steps)
	}
	return t.apply(header, step, total, loss, maxima, attempt)
}

func (t *Trainer) apply(header data.Header, step int64, total *fixed.Sum, loss float64, maxima []float32, attempt int32) (Outcome, error) {
	if len(total.Values) != t.offsets.Size() || len(total.Exponents) != t.offsets.Tensors() || len(maxima) != t.offsets.Tensors() {
		return Outcome{}, fmt.Errorf("apply step %d: total of %d values, %d exponents and %d maxima, want %d values of %d tensors",
			step, len(total.Values), len(total.Exponents), len(maxima), t.offsets.Size(), t.offsets.Tensors())
	}
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return Outcome{}, &NonFiniteError{Step: step, Shard: -1, What: "the loss"}
	}
	o := Outcome{Loss: loss, Rate: t.optimizer.Rate(step), Maxima: slices.Clone(maxima), Attempt: attempt}
	for _, n := range header.Tokens {
		o.Tokens += int64(n)
	}
	u := t.optimizer.Update(step, total)
	o.Norm, o.Gradient, o.Parameters = u.Norm, u.Gradient, u.Parameters
	if err := t.model.Updated(); err != nil {
		return Outcome{}, fmt.Errorf("apply step %d: %w", step, err)
	}
	t.steps, t.maxima, t.tries = step+1, o.Maxima, attempt
	o.Step = t.steps
	return o, nil
}

// Embed returns the embeddings of a shard without dropout and with the attention of evaluation, rows
// [len(shard.Texts), D] in the shard's order: phase A of an evaluation.
func (t *Trainer) Embed(shard *data.Shard) ([]float32, error) {
	rows, _, err := t.model.Embed(backbone.Batch{Texts: shard.Texts}, 0)
	if err != nil {
		return nil, fmt.Errorf("embed shard %d: %w", shard.Index, err)
	}
	if !finite(rows) {
		return nil, &NonFiniteError{Step: t.steps, Shard: shard.Index, What: "an embedding", Texts: shard.Texts}
	}
	return rows, nil
}

// Width returns D, the length of an embedding.
func (t *Trainer) Width() int { return t.model.Width() }

// Size returns P, the number of trainable parameters: the length of fixed.Sum.Values.
func (t *Trainer) Size() int { return t.offsets.Size() }

// Params returns the trainable tensors in the order in which State has them.
func (t *Trainer) Params() []backbone.Param { return t.params }

// Steps returns how many steps have been applied.
func (t *Trainer) Steps() int64 { return t.steps }

// Maxima returns the maxima and the attempt committed with the last step applied; nil before the first.
func (t *Trainer) Maxima() ([]float32, int32) { return t.maxima, t.tries }

// Digest returns the tree hash of the parameters and both moments, as in Outcome.Parameters.
func (t *Trainer) Digest() string { return t.optimizer.Digest() }

// FrozenDigest returns the digest of the frozen weights as they were loaded; "" if none are watched (backbone.Base.Watch).
func (t *Trainer) FrozenDigest() string {
	if t.base == nil {
		return ""
	}
	return t.base.FrozenDigest()
}

// CheckFrozen hashes the frozen weights again, and names those that changed. Unlike all other methods it may be called
// while a step is executed.
func (t *Trainer) CheckFrozen(ctx context.Context) error {
	if t.base == nil {
		return nil
	}
	return t.base.CheckFrozen(ctx)
}

// Free gives back the memory of the model on its device. The trainer is of no use afterwards.
func (t *Trainer) Free() {
	if t.loss != nil {
		t.loss.Free()
	}
	if m, ok := t.model.(network); ok {
		m.Free()
	}
}
