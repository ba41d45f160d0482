package trainer

import (
	"context"
	"errors"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// Trainer holds the trainable parameters, the optimizer and the device of one worker. Its methods are called
// from one goroutine at a time.
type Trainer struct{}

// Step executes one training step with the other workers behind fleet and updates the parameters. On an error
// the parameters are those of before the step, so it may be called again for the same step.
//
// A *NonFiniteError has been reported through fleet.Done before it is returned.
func (t *Trainer) Step(ctx context.Context, header data.Header, step int64, fleet Fleet) (Outcome, error) {
	return Outcome{}, errors.ErrUnsupported
}

// Apply updates the parameters with the total of a step that others computed: a follower's step, and the end of
// a complete closing. attempt is the one that total was rounded under; maxima are those committed with the step.
func (t *Trainer) Apply(header data.Header, step int64, total *fixed.Sum, maxima []float32, attempt int32) (Outcome, error) {
	return Outcome{}, errors.ErrUnsupported
}

// Embed returns the embeddings of a shard without dropout, rows [len(shard.Texts), D] in the shard's order: phase
// A of an evaluation.
func (t *Trainer) Embed(shard *data.Shard) ([]float32, error) { return nil, errors.ErrUnsupported }

// Width returns D, the length of an embedding.
func (t *Trainer) Width() int { return 0 }

// Size returns P, the number of trainable parameters: the length of fixed.Sum.Values.
func (t *Trainer) Size() int { return 0 }

// Steps returns how many steps have been applied.
func (t *Trainer) Steps() int64 { return 0 }

// State returns a copy, which the caller owns: take it between two steps.
func (t *Trainer) State() State { return State{} }

// Restore replaces the state by a copy of s. It refuses a state whose lengths are not those of the model.
func (t *Trainer) Restore(s State) error { return errors.ErrUnsupported }

// Digest returns the tree hash of the parameters and both moments, as in Outcome.Parameters.
func (t *Trainer) Digest() string { return "" }
