package trainer

import (
	"fmt"
	"slices"

	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

// State is everything that the next step depends on besides the configuration and the data. It goes into
// checkpoints and to workers that join.
type State struct {
	Step       int64     // steps applied
	Parameters []float32 // [P] trainable, in tensor order
	First      []float32 // [P] AdamW's first moment
	Second     []float32 // [P] AdamW's second moment
	Maxima     []float32 // [tensors] committed with the last step; nil before the first
	Attempt    int32     // committed with it
}

// State returns a copy, which the caller owns: take it between two steps.
func (t *Trainer) State() State {
	return State{
		Step: t.steps, Parameters: slices.Clone(t.optimizer.Weights), First: slices.Clone(t.optimizer.First),
		Second: slices.Clone(t.optimizer.Second), Maxima: slices.Clone(t.maxima), Attempt: t.tries,
	}
}

// Digest returns the tree hash of the parameters and both moments, as Trainer.Digest of a trainer that holds them:
// what a step commits.
func (s State) Digest() string { return optim.Digest(s.Parameters, s.First, s.Second, nil) }

// Restore replaces the state by a copy of s. It refuses a state whose lengths are not those of the model, and leaves
// everything as it is then.
func (t *Trainer) Restore(s State) error {
	size, tensors := t.offsets.Size(), t.offsets.Tensors()
	if len(s.Parameters) != size || len(s.First) != size || len(s.Second) != size || (s.Maxima != nil && len(s.Maxima) != tensors) {
		return fmt.Errorf("restore step %d: %d parameters, %d and %d moments, %d maxima, want %d, and %d maxima",
			s.Step, len(s.Parameters), len(s.First), len(s.Second), len(s.Maxima), size, tensors)
	}
	copy(t.optimizer.Weights, s.Parameters)
	copy(t.optimizer.First, s.First)
	copy(t.optimizer.Second, s.Second)
	t.steps, t.maxima, t.tries = s.Step, slices.Clone(s.Maxima), s.Attempt
	if err := t.model.Updated(); err != nil {
		return fmt.Errorf("restore step %d: %w", s.Step, err)
	}
	return nil
}
