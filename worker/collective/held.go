package collective

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// held is what a worker has of one try of a round. mu guards its fields and is held for moments; who reads values holds
// use, taken under mu, so that withdraw and release can wait for the readers: the caller may change its sum after them.
type held struct {
	mu      sync.Mutex
	closing int32      // that sum is over; 0 = no sum held
	sum     *fixed.Sum // this worker's contribution, the caller's memory
	total   *fixed.Sum // filled where filled says so
	filled  spans
	packed  map[span][]byte // parts of the total that this worker owns, as they go out
	alias   bool            // total is the caller's memory too
	spare   *unused
	changed chan struct{}

	use    sync.RWMutex
	flying atomic.Int32 // answers on their way whose payload is one of packed
}

// signal wakes those who wait for a change. The caller holds mu.
func (h *held) signal() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// offer makes sum answerable under closing.
func (h *held) offer(closing int32, sum *fixed.Sum) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closing, h.sum = closing, sum
	h.signal()
}

// withdraw ends answering for the sum.
func (h *held) withdraw() {
	h.mu.Lock()
	h.sum = nil
	h.mu.Unlock()
	h.wait()
}

// wait returns when nobody reads any more what was there before.
func (h *held) wait() {
	h.use.Lock()
	//lint:ignore SA2001 the wait is all
	h.use.Unlock()
}

// adopt takes total as the whole total.
func (h *held) adopt(total *fixed.Sum, alias bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total, h.alias, h.filled = total, alias, spans{{0, int64(len(total.Values))}}
	h.signal()
}

// place returns the memory of a part of the total that is not filled yet: nobody reads it before fill.
func (h *held) place(size int64, exponents []int32, p span) ([]int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.total == nil {
		h.total = h.spare.take(exponents, int(size))
	}
	if !slices.Equal(h.total.Exponents, exponents) {
		return nil, errExponents
	}
	return h.total.Values[p.lo:p.hi], nil
}

// fill makes a part of the total answerable; packed is how it goes out, nil = not packed yet.
func (h *held) fill(p span, packed []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.filled = h.filled.add(p.lo, p.hi)
	if packed != nil {
		if h.packed == nil {
			h.packed = map[span][]byte{}
		}
		h.packed[p] = packed
	}
	h.signal()
}

// missing returns the parts of [lo, hi) that are not filled.
func (h *held) missing(lo, hi int64) spans {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.filled.missing(lo, hi)
}

// release forgets the sum, and reports whether a whole total of our own memory is left to keep.
func (h *held) release(all bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sum = nil
	if !all && !h.alias && h.total != nil && h.filled.covers(0, int64(len(h.total.Values))) {
		h.wait()
		return true
	}
	total, packed := h.total, h.packed
	h.total, h.filled, h.packed = nil, nil, nil
	h.wait()
	if total != nil && !h.alias {
		h.spare.give(total)
	}
	if h.flying.Load() == 0 {
		for _, b := range packed {
			Recycle(b)
		}
	}
	h.signal()
	return false
}

// unused is the memory of a total that nobody needs any more, for the next one: without it every step takes and clears
// 8 bytes a parameter.
type unused struct {
	mu  sync.Mutex
	sum *fixed.Sum
}

func (s *unused) give(sum *fixed.Sum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum = sum
}

// take returns a sum whose values are anything: what of them is meant, filled says.
func (s *unused) take(exponents []int32, size int) *fixed.Sum {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.sum
	if s.sum = nil; sum == nil || len(sum.Values) != size {
		return fixed.NewSum(exponents, size)
	}
	sum.Exponents = append(sum.Exponents[:0], exponents...)
	return sum
}

func (s *unused) clone(sum *fixed.Sum) *fixed.Sum {
	out := s.take(sum.Exponents, len(sum.Values))
	copy(out.Values, sum.Values)
	return out
}

// span is the parameters [lo, hi).
type span struct{ lo, hi int64 }

// spans are disjoint, ascending and not adjacent.
type spans []span

// add returns s with [lo, hi) added.
func (s spans) add(lo, hi int64) spans {
	out := make(spans, 0, len(s)+1)
	for i, x := range s {
		if x.hi < lo {
			out = append(out, x)
			continue
		}
		if x.lo > hi {
			return append(append(out, span{lo, hi}), s[i:]...)
		}
		lo, hi = min(lo, x.lo), max(hi, x.hi)
	}
	return append(out, span{lo, hi})
}

// covers reports whether all of [lo, hi) is in s.
func (s spans) covers(lo, hi int64) bool { return len(s.missing(lo, hi)) == 0 }

// missing returns what of [lo, hi) is not in s.
func (s spans) missing(lo, hi int64) spans {
	var out spans
	for _, x := range s {
		if lo >= hi {
			return out
		}
		if x.hi <= lo {
			continue
		}
		if x.lo > lo {
			out = append(out, span{lo, min(x.lo, hi)})
		}
		lo = max(lo, x.hi)
	}
	if lo < hi {
		out = append(out, span{lo, hi})
	}
	return out
}

// parts cuts s into pieces of at most n parameters.
func (s spans) parts(n int64) []span {
	var out []span
	for _, x := range s {
		for lo := x.lo; lo < x.hi; lo += n {
			out = append(out, span{lo, min(lo+n, x.hi)})
		}
	}
	return out
}
