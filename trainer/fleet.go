// Package trainer owns the training step. Step is one page; everything that it needs from the other workers
// comes through Fleet.
package trainer

import (
	"context"
	"errors"
	"iter"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// Phase is a part of a step in which shards are leased.
type Phase uint8

// The phases of a round that lease shards.
const (
	Embed    Phase = iota + 1 // phase A: embeddings only
	Backward                  // phase C: gradients
	Audit                     // phase C of a shard that another worker has in its sum, to compare the two
)

var (
	// ErrReleased says that a worker named by the closing was lost before every owner had its sum: more shards
	// may now be leased to this one, and a closing with a higher number follows.
	ErrReleased = errors.New("trainer: closing withdrawn, shards leased again")

	// ErrOverflow says that some shard's value exceeded its fixed-point bound. The leader has committed the
	// next attempt with the observed maxima; all shards are redone.
	ErrOverflow = errors.New("trainer: fixed-point overflow, attempt repeated")
)

// Done is what a worker reports of one finished shard.
type Done struct {
	Shard     int
	Maxima    []float32 // [tensors] max |g| of the shard, in tensor order
	NonFinite bool      // some gradient or the loss was NaN or infinite
	Overflow  bool      // some tensor's maximum is beyond its bound under this attempt's exponents
	Loss      float64   // the shard's part of a language-model loss; 0 for InfoNCE, whose loss every worker knows
	Tokens    int
	Seconds   float64
	Digest    string // of the rounded gradient, where Auditor asks for it
	// Rows are the shard's embeddings as this worker computes them, [texts, D], in the shard's order: only of a shard that is
	// computed to be compared, so that those which everybody used are compared too.
	Rows []float32
}

// Attempt says how a step's gradients are rounded: the committed maxima it starts from, and which try it is.
type Attempt struct {
	Number int32
	Maxima []float32 // [tensors] of the step before, or observed in the attempt before; nil = no history
	Shards int       // shards of the step, for the head-room of the sum
}

// Closing names one worker per shard. This worker's sum is over Shards exactly.
type Closing struct {
	Number int32
	Shards []int     // the shards whose sum this worker contributes, ascending; may be empty
	Maxima []float32 // [tensors] committed with the closing: the largest |g| of any worker's shard
	Loss   float64   // language-model objectives: every shard's Done.Loss, added in the order of shards
}

// Auditor is a Fleet in which some gradients are computed by two workers and compared.
type Auditor interface {
	// Audit says of a shard that Leased yields for Backward whether its Done is to carry Digest, and whether it is
	// computed for that alone: then it is another worker's, and is not added to the sum.
	Audit(shard int) (digest, only bool)
}

// Fleet is what a step needs from the other workers. The worker's agent implements it over NATS and TCP; Solo
// implements it for one worker in one process. Methods block, and return ctx's error when the round is
// abandoned.
type Fleet interface {
	// Leased yields the shards that this worker holds for the phase, as they are granted, until every shard of
	// the step is accounted for by some worker: embedded for Embed, closed for Backward. The same shard may be
	// yielded in both phases; it is yielded twice in one attempt of one phase only if Done refused it in between.
	Leased(ctx context.Context, phase Phase) iter.Seq2[*data.Shard, error]

	// Share publishes the embeddings of one shard: rows [len(shard.Texts), D], in the shard's order.
	Share(ctx context.Context, shard *data.Shard, rows []float32) error

	// Gather returns the embeddings of all slots of the batch, [R, D], slot order.
	Gather(ctx context.Context) ([]float32, error)

	// Done reports a shard. accepted is false if another worker's report came first or the lease is gone: the
	// caller then leaves the shard out of its sum.
	Done(ctx context.Context, done Done) (accepted bool, err error)

	// Attempt returns how this try of the step rounds its gradients.
	Attempt(ctx context.Context) (Attempt, error)

	// Close waits for the step's closing. ErrReleased: call Leased(Backward) again. ErrOverflow: clear the sum
	// and start phase C again with the new Attempt.
	Close(ctx context.Context) (Closing, error)

	// Reduce contributes sum under the closing and returns the fleet's total, which the caller may read and keep
	// but not change: others may still ask for it. With one worker it is sum itself, which the caller then leaves
	// alone until its next step. After an error the sum is the caller's again. ErrReleased, ErrOverflow as for Close.
	Reduce(ctx context.Context, closing Closing, sum *fixed.Sum) (*fixed.Sum, error)
}
