package trainer

import (
	"context"
	"fmt"
	"iter"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// Solo is the Fleet of one worker in one process, for one step: it does what leader and other workers do, with
// nobody else to wait for.
type Solo struct {
	shards   []*data.Shard
	rows     []float32 // [R, D]
	width    int
	try      Attempt
	observed []float32
	losses   []float64 // [shards]
	done     []bool    // [shards] of this attempt
}

// NewSolo returns the fleet of one step of t over the shards of a batch of slots texts.
func NewSolo(t *Trainer, shards []*data.Shard, slots int) *Solo {
	s := &Solo{shards: shards, rows: make([]float32, slots*t.Width()), width: t.Width()}
	maxima, _ := t.Maxima()
	s.begin(0, maxima, t.offsets.Tensors())
	return s
}

// Solo is NewSolo of t.
func (t *Trainer) Solo(shards []*data.Shard, slots int) *Solo { return NewSolo(t, shards, slots) }

func (s *Solo) begin(number int32, maxima []float32, tensors int) {
	s.try = Attempt{Number: number, Maxima: maxima, Shards: len(s.shards)}
	s.observed = make([]float32, tensors)
	s.losses, s.done = make([]float64, len(s.shards)), make([]bool, len(s.shards))
}

// Leased implements Fleet.
func (s *Solo) Leased(ctx context.Context, phase Phase) iter.Seq2[*data.Shard, error] {
	return func(yield func(*data.Shard, error) bool) {
		for _, shard := range s.shards {
			if phase == Backward && s.done[shard.Index] {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if !yield(shard, nil) {
				return
			}
		}
	}
}

// Share implements Fleet.
func (s *Solo) Share(_ context.Context, shard *data.Shard, rows []float32) error {
	for i, text := range shard.Texts {
		at := int(text.Slot) * s.width
		if at < 0 || at+s.width > len(s.rows) {
			return fmt.Errorf("shard %d: text %d has slot %d, want less than %d", shard.Index, i, text.Slot, len(s.rows)/s.width)
		}
		copy(s.rows[at:at+s.width], rows[i*s.width:])
	}
	return nil
}

// Gather implements Fleet.
func (s *Solo) Gather(ctx context.Context) ([]float32, error) { return s.rows, ctx.Err() }

// Done implements Fleet.
func (s *Solo) Done(ctx context.Context, done Done) (bool, error) {
	fixed.MaxInto(s.observed, done.Maxima)
	s.losses[done.Shard], s.done[done.Shard] = done.Loss, true
	return true, ctx.Err()
}

// Attempt implements Fleet.
func (s *Solo) Attempt(ctx context.Context) (Attempt, error) { return s.try, ctx.Err() }

// Close implements Fleet.
func (s *Solo) Close(ctx context.Context) (Closing, error) {
	tensors := len(s.observed)
	if _, over := fixed.Exceeds(s.observed, fixed.Exponents(s.try.Maxima, tensors, len(s.shards)), len(s.shards)); over {
		s.begin(s.try.Number+1, s.observed, tensors)
		return Closing{}, ErrOverflow
	}
	c := Closing{Number: 1, Maxima: s.observed}
	for i, loss := range s.losses {
		c.Shards, c.Loss = append(c.Shards, i), c.Loss+loss
	}
	return c, ctx.Err()
}

// Reduce implements Fleet.
func (s *Solo) Reduce(ctx context.Context, _ Closing, sum *fixed.Sum) (*fixed.Sum, error) {
	return sum, ctx.Err()
}
