package collective

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// errExponents says that a part was rounded under other exponents than this worker's: it is of another attempt,
// or its sender is in doubt.
var errExponents = errors.New("exponents differ from this worker's")

// Serve answers a question for a sum or a total. Where the value is not here yet it waits up to Options.Poll.
func (g *Group) Serve(ctx context.Context, req *wire.ChunkRequest) *wire.Chunk {
	if req.Run != g.run {
		return &wire.Chunk{Err: fmt.Sprintf("run %q is not run %q of this worker", req.Run, g.run)}
	}
	if req.Lo < 0 || req.Hi <= req.Lo || req.Hi-req.Lo > 16<<20 {
		return &wire.Chunk{Err: fmt.Sprintf("parameters [%d, %d) asked for, want a part of 1 to %d", req.Lo, req.Hi, 16<<20)}
	}
	timer := time.NewTimer(g.Poll)
	defer timer.Stop()
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
		chunk, changed := h.answer(req)
		if chunk != nil {
			return chunk
		}
		select {
		case <-changed:
		case <-timer.C:
			return &wire.Chunk{Later: true}
		case <-ctx.Done():
			return &wire.Chunk{Later: true}
		}
	}
}

// goneText is the Err of an answer for a round that is no longer kept.
const goneText = "no longer kept"

// answer packs what req asks for, or returns the channel that says when it may be there.
func (h *held) answer(req *wire.ChunkRequest) (*wire.Chunk, <-chan struct{}) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var from *fixed.Sum
	switch req.Stream {
	case StreamSum:
		if h.closing > req.Closing {
			return &wire.Chunk{Err: fmt.Sprintf("closing %d is superseded by %d", req.Closing, h.closing)}, nil
		}
		if h.closing < req.Closing || h.sum == nil {
			return nil, h.changed
		}
		from = h.sum
	case StreamTotal:
		if h.total == nil || !h.filled.covers(req.Lo, req.Hi) {
			return nil, h.changed
		}
		from = h.total
	default:
		return &wire.Chunk{Err: fmt.Sprintf("stream %q is unknown, want %q or %q", req.Stream, StreamSum, StreamTotal)}, nil
	}
	if req.Hi > int64(len(from.Values)) {
		return &wire.Chunk{Err: fmt.Sprintf("parameters [%d, %d) asked for, this worker has %d", req.Lo, req.Hi, len(from.Values))}, nil
	}
	payload := encode(from.Exponents, from.Values[req.Lo:req.Hi])
	return &wire.Chunk{Payload: payload, Digest: checksum(payload)}, nil
}

// encode packs a part: the number of exponents, the exponents, the number of values (all varints), the values.
func encode(exponents []int32, values []int64) []byte {
	b := binary.AppendUvarint(make([]byte, 0, len(values)*6+len(exponents)*2+16), uint64(len(exponents)))
	for _, e := range exponents {
		b = binary.AppendVarint(b, int64(e))
	}
	b = binary.AppendUvarint(b, uint64(len(values)))
	return fixed.Pack(b, values)
}

// checksum guards a part on its way: CRC-32C, which costs a tenth of packing. What was added wrong would show in the
// digests that are compared at every commit; this says which part to ask for again.
func checksum(b []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(b, castagnoli)), 16)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// decode reads a part of exactly want values. They are scratch memory: the caller gives them back with recycle.
func decode(b []byte, want int) (exponents []int32, values []int64, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)) {
		return nil, nil, errors.New("decode part: bad number of exponents")
	}
	b = b[w:]
	exponents = make([]int32, n)
	for i := range exponents {
		e, w := binary.Varint(b)
		if w <= 0 || e != int64(int32(e)) {
			return nil, nil, fmt.Errorf("decode part: bad exponent %d of %d", i, n)
		}
		exponents[i], b = int32(e), b[w:]
	}
	n, w = binary.Uvarint(b)
	if w <= 0 || n != uint64(want) {
		return nil, nil, fmt.Errorf("decode part: %d values, want %d", n, want)
	}
	values = scratch(want)
	rest, err := fixed.Unpack(values, b[w:])
	if err != nil {
		return nil, nil, fmt.Errorf("decode part: %w", err)
	}
	if len(rest) != 0 {
		return nil, nil, fmt.Errorf("decode part: %d bytes too many", len(rest))
	}
	return exponents, values, nil
}

// spare holds slices of values between parts.
var spare sync.Pool

func scratch(n int) []int64 {
	if p, ok := spare.Get().(*[]int64); ok && cap(*p) >= n {
		return (*p)[:n]
	}
	return make([]int64, n)
}

func recycle(values []int64) { spare.Put(&values) }
