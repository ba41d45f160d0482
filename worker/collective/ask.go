package collective

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// part is a good answer: packed, or values of this process.
type part struct {
	exponents []int32
	code      []byte
	values    []int64 // instead of code
}

// into writes the values to dst, or adds them. After an error some of them may be there.
func (v part) into(dst []int64, add bool) error {
	switch {
	case v.values == nil:
		return unpack(dst, v.code, add)
	case add:
		for i, x := range v.values {
			dst[i] += x
		}
	default:
		copy(dst, v.values)
	}
	return nil
}

// ask repeats a question until accept takes the answer: to the first of from while it says "later", to the next one
// when it does not answer. Damaged parts are asked for again, and named in the log. ErrGone when all of from have
// forgotten the round.
func (g *Group) ask(ctx context.Context, from []string, req wire.ChunkRequest, accept func(part) error) error {
	var pause time.Duration
	gone := 0
	for try := 0; ; try++ {
		worker := from[try%len(from)]
		actx, cancel := context.WithTimeout(ctx, g.Timeout)
		refusal, err := g.once(actx, worker, &req, accept)
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case errors.Is(err, errSpoiled):
			return err
		case err != nil:
		case refusal == nil:
			return nil
		case refusal.Later:
			if len(from) == 1 || try%len(from) == 0 {
				try-- // a live holder that is not so far: stay with it
			}
			pause = time.Millisecond // the holder has waited already
		case refusal.Err == goneText:
			if gone++; gone >= 2*len(from) {
				return fmt.Errorf("round %d: %w", req.Round, ErrGone)
			}
		default:
			err = errors.New(refusal.Err)
		}
		if err != nil {
			g.Log.Debug("part asked for again", "worker", worker, "stream", req.Stream, "round", req.Round, "closing", req.Closing, "lo", req.Lo, "err", err)
		}
		pause = min(max(2*pause, 2*time.Millisecond), g.Poll/2)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ErrDamaged marks a part that is not what was sent.
var ErrDamaged = errors.New("collective: part does not have its checksum")

// once asks one worker once. A nil refusal and no error: the answer was accepted.
func (g *Group) once(ctx context.Context, worker string, req *wire.ChunkRequest, accept func(part) error) (refusal *wire.Chunk, err error) {
	if n, ok := g.transport.(Neighbours); ok {
		if near := n.Near(worker); near != nil {
			refusal, err := g.near(ctx, near, req, accept)
			if refusal == nil && err == nil {
				n.Lent(worker, 8*int(req.Hi-req.Lo))
			}
			return refusal, err
		}
	}
	chunk, done, err := g.transport.Ask(ctx, worker, req)
	if done != nil {
		defer done()
	}
	if err != nil || chunk.Later || chunk.Err != "" {
		return chunk, err
	}
	if checksum(chunk.Payload) != chunk.Digest {
		return nil, g.damage(worker, req, ErrDamaged)
	}
	exponents, code, err := decode(chunk.Payload, int(req.Hi-req.Lo))
	if err != nil {
		return nil, g.damage(worker, req, err)
	}
	if err := accept(part{exponents: exponents, code: code}); err != nil {
		return nil, g.damage(worker, req, err)
	}
	return nil, nil
}

// damage counts and names a part that is no good.
func (g *Group) damage(worker string, req *wire.ChunkRequest, err error) error {
	g.damaged.Add(1)
	g.Log.Warn("damaged part; asked for again", "worker", worker, "stream", req.Stream, "round", req.Round, "lo", req.Lo, "err", err)
	return err
}

// near takes a value from another Group of this process. The values are lent: they are copied out under the holder's
// lock, and accept, which takes locks of its own, comes after.
func (g *Group) near(ctx context.Context, holder *Group, req *wire.ChunkRequest, accept func(part) error) (refusal *wire.Chunk, err error) {
	values := scratch(int(req.Hi - req.Lo))
	defer recycle(values)
	var exponents []int32
	refusal = holder.view(ctx, req, func(_ *held, from *fixed.Sum, _ []byte) {
		exponents = slices.Clone(from.Exponents)
		copy(values, from.Values[req.Lo:req.Hi])
	})
	if refusal != nil {
		return refusal, nil
	}
	return nil, accept(part{exponents: exponents, values: values})
}
