package data

import "sort"

// windows says where the batches of a run cut one epoch of a source: position p of the epoch's order is in the
// first window whose end is beyond p.
type windows struct {
	lead int   // rows at the end of the epoch before that belong to the first window
	ends []int // ascending; the last is the number of rows drawn in the epoch
	open bool  // the last window goes on in the next epoch
}

func (w *windows) of(p int) int { return sort.SearchInts(w.ends, p+1) }

// span returns the positions [lo, hi) of window i in this epoch.
func (w *windows) span(i int) (lo, hi int) {
	if i > 0 {
		lo = w.ends[i-1]
	}
	return lo, w.ends[i]
}

// tail returns how many of the epoch's last positions are in a window that goes on in the next epoch.
func (w *windows) tail() int {
	if !w.open {
		return 0
	}
	lo, hi := w.span(len(w.ends) - 1)
	return hi - lo
}

// keyer appends the keys of a row to dst: what may not occur twice in a batch.
type keyer func(dst []uint64, row uint32) []uint64

// epochOrder returns the order of a source's rows in one epoch: a permutation by key, then swaps that keep
// equal keys out of one window. tail is the last w.lead rows of the epoch before (see epochTail), so the order
// depends on the permutations of two epochs only and never on a chain of them.
//
// The swaps are greedy, then by search: a row that meets an equal key in its window changes places with the
// nearest later row that fits; those left over (at the end of the epoch) with any row of another window where
// both fit. Work is bounded by a multiple of the rows; what is left has no other choice, or costs too much to
// find one, and the loss masks it.
func epochOrder(n int, key uint64, w *windows, keys keyer, tail []uint32, before keyer) []uint32 {
	order := make([]uint32, n)
	permute(order, key)
	if keys == nil {
		return order
	}
	fixTail(order, w, keys)
	o := &swapper{order: order, w: w, keys: keys, set: newKeySet(1024), other: newKeySet(1024), budget: 64*n + 1<<20}
	o.used = w.ends[len(w.ends)-1]
	o.lo, o.hi = o.used-w.tail(), o.used
	for _, row := range tail {
		o.lead = before(o.lead, row)
	}
	o.forward()
	o.search()
	return order
}

// epochTail returns the last rows of an epoch, those in the window that goes on in the next epoch. They are
// fixed before the rest of the epoch and pure in its permutation.
func epochTail(n int, key uint64, w *windows, keys keyer) []uint32 {
	order := make([]uint32, n)
	permute(order, key)
	if keys != nil {
		fixTail(order, w, keys)
	}
	used := w.ends[len(w.ends)-1]
	return order[used-w.tail() : used]
}

// fixTail swaps rows of the tail that have equal keys with rows before it.
func fixTail(order []uint32, w *windows, keys keyer) {
	used := w.ends[len(w.ends)-1]
	lo := used - w.tail()
	set := newKeySet(1024)
	var buf []uint64
	next := 0
	for p := lo; p < used; p++ {
		buf = keys(buf[:0], order[p])
		if set.any(buf) {
			// Candidates that failed once fail again: the set only grows.
			for ; next < lo; next++ {
				buf = keys(buf[:0], order[next])
				if !set.any(buf) {
					order[p], order[next] = order[next], order[p]
					next++
					break
				}
			}
			buf = keys(buf[:0], order[p])
		}
		set.add(buf)
	}
}

// swapper makes the swaps of one epoch. Positions [lo, hi) are the tail, which stays; positions from used on
// are dropped in this epoch and serve as a reserve.
type swapper struct {
	order        []uint32
	w            *windows
	keys         keyer
	lead         []uint64 // keys of the first window's rows in the epoch before
	used, lo, hi int
	set, other   *keySet
	a, b         []uint64
	clashes      []int // positions left with a key that their window has already
	budget       int
}

// forward fills the windows one after another, taking a later row where the next one does not fit.
func (o *swapper) forward() {
	for i := range o.w.ends {
		lo, hi := o.w.span(i)
		hi = min(hi, o.lo)
		o.set.clear()
		if i == 0 {
			o.set.add(o.lead)
		}
		next := lo // candidates before it failed: the set only grows within a window
		for p := lo; p < hi; p++ {
			o.a = o.keys(o.a[:0], o.order[p])
			if o.set.any(o.a) {
				if !o.later(p, &next) {
					o.clashes = append(o.clashes, p)
				}
				o.a = o.keys(o.a[:0], o.order[p])
			}
			o.set.add(o.a)
		}
	}
}

// later swaps position p with the first later one whose row fits the window in o.set.
func (o *swapper) later(p int, next *int) bool {
	for q := max(*next, p+1); q < len(o.order) && o.budget > 0; q++ {
		if q == o.lo {
			q = o.hi // the tail stays
			if q >= len(o.order) {
				break
			}
		}
		o.budget--
		*next = q + 1
		o.b = o.keys(o.b[:0], o.order[q])
		if !o.set.any(o.b) {
			o.order[p], o.order[q] = o.order[q], o.order[p]
			return true
		}
	}
	*next = max(*next, len(o.order))
	return false
}

// search tries for each clash every swap with another window in which both rows fit; then the same for the
// rows that it clashes with; and again for all, as long as some swap was found.
func (o *swapper) search() {
	for found := true; found; {
		found = false
		for _, p := range o.clashes {
			if o.budget <= 0 {
				return
			}
			if o.clashing(p) && (o.exchange(p) || o.partners(p)) {
				found = true
			}
		}
	}
}

// partners exchanges one of the rows that clash with position p.
func (o *swapper) partners(p int) bool {
	lo, hi := o.w.span(o.w.of(p))
	mine := o.keys(nil, o.order[p])
	for q := lo; q < min(hi, o.lo) && o.budget > 0; q++ {
		if q == p {
			continue
		}
		o.other.clear()
		o.other.add(mine)
		o.b = o.keys(o.b[:0], o.order[q])
		if o.other.any(o.b) && o.exchange(q) {
			return true
		}
	}
	return false
}

// fill makes set the keys of window i without position p.
func (o *swapper) fill(set *keySet, i, p int) {
	set.clear()
	if i == 0 {
		set.add(o.lead)
	}
	lo, hi := o.w.span(i)
	for q := lo; q < hi; q++ {
		if q != p {
			o.a = o.keys(o.a[:0], o.order[q])
			set.add(o.a)
		}
	}
	o.budget -= hi - lo
}

func (o *swapper) clashing(p int) bool {
	o.fill(o.set, o.w.of(p), p)
	o.a = o.keys(o.a[:0], o.order[p])
	return o.set.any(o.a)
}

// exchange swaps position p with one of another window (or of the reserve) such that neither row clashes after.
func (o *swapper) exchange(p int) bool {
	home := o.w.of(p)
	lo, hi := o.w.span(home)
	o.fill(o.set, home, p)
	for q := range o.order {
		if q >= lo && q < hi || q >= o.lo && q < o.hi {
			continue
		}
		if o.budget--; o.budget <= 0 {
			return false
		}
		o.b = o.keys(o.b[:0], o.order[q])
		if o.set.any(o.b) {
			continue
		}
		if q < o.used {
			o.fill(o.other, o.w.of(q), q)
			o.b = o.keys(o.b[:0], o.order[p])
			if o.other.any(o.b) {
				continue
			}
		}
		o.order[p], o.order[q] = o.order[q], o.order[p]
		return true
	}
	return false
}
