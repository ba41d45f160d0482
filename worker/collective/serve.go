package collective

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// errExponents says that a part was rounded under other exponents than this worker's: it is of another attempt,
// or its sender is in doubt.
var errExponents = errors.New("exponents differ from this worker's")

// goneText is the Err of an answer for a round that is no longer kept.
const goneText = "no longer kept"

// later is the answer of a value that is not here yet.
var later = &wire.Chunk{Later: true}

// Serve answers a question for a sum or a total. Where the value is not here yet it waits up to Options.Poll.
func (g *Group) Serve(ctx context.Context, req *wire.ChunkRequest) *wire.Chunk {
	chunk, _ := g.Answer(ctx, req)
	return chunk
}

// Answer is Serve whose payload's memory is used again after done, which is called once the answer is on its way.
func (g *Group) Answer(ctx context.Context, req *wire.ChunkRequest) (chunk *wire.Chunk, done func()) {
	done = func() {}
	if req.Hi-req.Lo > 16<<20 {
		return &wire.Chunk{Err: fmt.Sprintf("parameters [%d, %d) asked for, want a part of 1 to %d", req.Lo, req.Hi, 16<<20)}, done
	}
	refusal := g.view(ctx, req, func(h *held, from *fixed.Sum, ready []byte) {
		if ready != nil {
			h.flying.Add(1)
			done = func() { h.flying.Add(-1) }
		} else {
			ready = encode(from.Exponents, from.Values[req.Lo:req.Hi])
			done = func() { Recycle(ready) }
		}
		chunk = &wire.Chunk{Payload: ready, Digest: checksum(ready)}
	})
	if refusal != nil {
		return refusal, done
	}
	return chunk, done
}

// view calls use with the value that req asks for, when it is here; ready is its packed form where there is one. It
// returns why not otherwise. use must not take locks.
func (g *Group) view(ctx context.Context, req *wire.ChunkRequest, use func(h *held, from *fixed.Sum, ready []byte)) *wire.Chunk {
	if req.Run != g.run {
		return &wire.Chunk{Err: fmt.Sprintf("run %q is not run %q of this worker", req.Run, g.run)}
	}
	if req.Lo < 0 || req.Hi <= req.Lo {
		return &wire.Chunk{Err: fmt.Sprintf("parameters [%d, %d) asked for, want one or more", req.Lo, req.Hi)}
	}
	var timer *time.Timer
	var expired <-chan time.Time
	k := key{req.Round, req.Attempt}
	for {
		g.mu.Lock()
		h := g.held[k]
		floor := g.floor
		g.mu.Unlock()
		if h == nil {
			if req.Round < floor {
				return &wire.Chunk{Err: goneText}
			}
			h = g.hold(k) // asked before this worker came so far
		}
		refusal, changed := h.view(req, use)
		if changed == nil {
			return refusal
		}
		if timer == nil {
			timer = time.NewTimer(g.Poll)
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-changed:
		case <-expired:
			return later
		case <-ctx.Done():
			return later
		}
	}
}

// view calls use, or says why not, or returns the channel that says when there may be something to use.
func (h *held) view(req *wire.ChunkRequest, use func(h *held, from *fixed.Sum, ready []byte)) (refusal *wire.Chunk, changed <-chan struct{}) {
	h.mu.Lock()
	from, ready, refusal := h.find(req)
	if from == nil {
		changed = h.changed
		h.mu.Unlock()
		if refusal != nil {
			changed = nil
		}
		return refusal, changed
	}
	h.use.RLock()
	h.mu.Unlock()
	defer h.use.RUnlock()
	use(h, from, ready)
	return nil, nil
}

// find returns the sum or total that req asks for, or why it never comes; none of them: not yet. The caller holds mu.
func (h *held) find(req *wire.ChunkRequest) (from *fixed.Sum, ready []byte, refusal *wire.Chunk) {
	switch req.Stream {
	case StreamSum:
		if h.closing > req.Closing {
			return nil, nil, &wire.Chunk{Err: fmt.Sprintf("closing %d is superseded by %d", req.Closing, h.closing)}
		}
		if h.closing < req.Closing || h.sum == nil {
			return nil, nil, nil
		}
		from = h.sum
	case StreamTotal:
		if h.total == nil || !h.filled.covers(req.Lo, req.Hi) {
			return nil, nil, nil
		}
		from, ready = h.total, h.packed[span{req.Lo, req.Hi}]
	default:
		return nil, nil, &wire.Chunk{Err: fmt.Sprintf("stream %q is unknown, want %q or %q", req.Stream, StreamSum, StreamTotal)}
	}
	if req.Hi > int64(len(from.Values)) {
		return nil, nil, &wire.Chunk{Err: fmt.Sprintf("parameters [%d, %d) asked for, this worker has %d", req.Lo, req.Hi, len(from.Values))}
	}
	return from, ready, nil
}
