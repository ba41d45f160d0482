package trainer

import (
	"context"
	"errors"
	"fmt"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// Step executes training step s = step with the other workers behind fleet and updates the parameters w. On an error
// the parameters are those of before, so that it may be called again for the same step; a *NonFiniteError has been
// reported through fleet.Done before it is returned.
//
// The texts of the global batch lie in shards v. With E = unit rows of the pooled backbone f(w, text):
//
//	A  E_v = f(w, texts_v), without activations           every worker its shards; all rows go to all
//	B  L = InfoNCE(E), dL/dE                              every worker the same, over the whole batch
//	C  g_v = (dE_v/dw)^T dL/dE_v                          every worker its shards; GradCache, Gao et al. 2021
//	   G = sum_v round(g_v 2^e) 2^-e                      in integers: the same for any partition and order
//	   w, m, v = AdamW(w, m, v, clip(G), rate(s))         every worker the same
//
// A language objective's loss is a sum over tokens with a divisor known beforehand: it has no A and B.
func (t *Trainer) Step(ctx context.Context, header data.Header, step int64, fleet Fleet) (Outcome, error) {
	if step != t.steps {
		return Outcome{}, fmt.Errorf("step %d: the parameters are those after %d steps", step, t.steps)
	}
	r := t.newRound(header, step, fleet)
	defer r.close()
	var loss float64
	var err error

	if t.config.Loss.Embeds() {
		for shard, err := range fleet.Leased(ctx, Embed) { // A
			if err != nil {
				return Outcome{}, fmt.Errorf("step %d, lease of phase A: %w", step, err)
			}
			if err := r.embed(ctx, shard); err != nil {
				return Outcome{}, err
			}
		}
		if loss, err = r.contrast(ctx); err != nil { // B
			return Outcome{}, err
		}
	}

	var total *fixed.Sum
	var closing Closing
	for again := ErrOverflow; again != nil; { // C, until the sum over all shards is known
		if errors.Is(again, ErrOverflow) {
			if err := r.attempt(ctx); err != nil { // e_t = f(last maxima), sum = 0
				return Outcome{}, err
			}
		}
		for shard, err := range fleet.Leased(ctx, Backward) {
			if err != nil {
				return Outcome{}, fmt.Errorf("step %d, lease of phase C: %w", step, err)
			}
			if err := r.backward(ctx, shard); err != nil { // sum += round(g_v 2^e)
				return Outcome{}, err
			}
		}
		if closing, again = fleet.Close(ctx); again == nil {
			if err := r.settle(closing); err != nil { // sum over exactly the shards that the closing names
				return Outcome{}, err
			}
			total, again = fleet.Reduce(ctx, closing, r.sum)
		}
		if again != nil && !errors.Is(again, ErrOverflow) && !errors.Is(again, ErrReleased) {
			return Outcome{}, fmt.Errorf("step %d, closing: %w", step, again)
		}
	}

	if r.dE == nil {
		loss = closing.Loss
	}
	return t.apply(header, step, total, loss, closing.Maxima, r.tries.Number) // the update
}
