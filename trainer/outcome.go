package trainer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
)

// Outcome is what a step did. Every field is the same on every worker of the run.
type Outcome struct {
	Step       int64     // steps applied to the parameters after this one
	Loss       float64   // before the update
	Norm       float64   // global L2 norm of the gradient, before clipping
	Rate       float64   // learning rate
	Gradient   string    // digest of the total
	Parameters string    // tree hash of the parameters and both moments after the update
	Maxima     []float32 // [tensors] largest |g| of any shard; the next step's exponents come from it
	Attempt    int32     // the attempt whose gradients were applied
	Tokens     int64     // of the whole global batch
}

// ErrNonFinite is the kind of a NonFiniteError.
var ErrNonFinite = errors.New("trainer: loss or gradient is not finite")

// NonFiniteError stops a run before its step is committed: some value was NaN or infinite. It names the shard
// and its rows, which is where a person looks for the cause.
type NonFiniteError struct {
	Step  int64
	Shard int    // -1: the loss over the gathered embeddings, not one shard
	What  string // "embedding", "loss" or "gradient of NAME"
	Texts []data.Text
}

// Error names the step, the shard and the rows of at most eight texts.
func (e *NonFiniteError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "step %d", e.Step)
	if e.Shard >= 0 {
		fmt.Fprintf(&b, ", shard %d", e.Shard)
	}
	fmt.Fprintf(&b, ": %s is not finite", e.What)
	for i, t := range e.Texts {
		if i == 8 {
			fmt.Fprintf(&b, " and %d more texts", len(e.Texts)-i)
			break
		}
		if i == 0 {
			b.WriteString("; rows (source:row)")
		}
		fmt.Fprintf(&b, " %d:%d", t.Source, t.Row)
	}
	return b.String()
}

// Unwrap makes errors.Is(err, ErrNonFinite) true.
func (e *NonFiniteError) Unwrap() error { return ErrNonFinite }
