package data

import "slices"

// Draw is one row of a batch: which row, in which of its source's epochs.
type Draw struct {
	Source int32
	Row    int64
	Epoch  int64
}

// epochKey names one epoch of a source.
type epochKey struct {
	source int
	epoch  int64
}

// epoch is the order of a source's rows in one epoch.
type epoch struct {
	windows windows
	rows    []uint32
}

// epochsKept bounds memory: 4 bytes a row each. A batch needs two of a source at the most, but for tiny sources.
const epochsKept = 3

// draws returns the rows of a step's batch. The lock is held.
func (s *Set) draws(step int64) []Draw {
	out := make([]Draw, 0, s.order.Batch)
	d := step * int64(s.groups)
	before := s.sched.before(d)
	for end := d + int64(s.groups); d < end; d++ {
		i := s.sched.at(d)
		used := int64(s.used(i))
		from := before[i] * int64(s.group)
		before[i]++
		for p := from; p < from+int64(s.group); p++ {
			e := s.epoch(epochKey{i, p / used})
			out = append(out, Draw{Source: int32(i), Row: int64(e.rows[p%used]), Epoch: p / used})
		}
	}
	return out
}

// epoch returns the order of an epoch, building it when it is not kept. The lock is held.
func (s *Set) epoch(k epochKey) *epoch {
	if e := s.epochs[k]; e != nil {
		return e
	}
	e := &epoch{windows: s.windows(k)}
	var tail []uint32
	if e.windows.lead > 0 {
		tail = s.tail(epochKey{k.source, k.epoch - 1}, e.windows.lead)
	}
	n := s.sources[k.source].rows()
	e.rows = epochOrder(n, s.orderKey(k), &e.windows, s.keyer(k), tail, s.keyer(epochKey{k.source, k.epoch - 1}))
	s.epochs[k] = e
	s.recent = append(s.recent, k)
	if len(s.recent) > epochsKept*len(s.sources) {
		delete(s.epochs, s.recent[0])
		s.recent = s.recent[1:]
	}
	return e
}

// tail returns the last lead rows of an epoch.
func (s *Set) tail(k epochKey, lead int) []uint32 {
	used := s.used(k.source)
	if e := s.epochs[k]; e != nil {
		return e.rows[used-lead : used]
	}
	w := s.windows(k)
	rows := epochTail(s.sources[k.source].rows(), s.orderKey(k), &w, s.keyer(k))
	return rows[len(rows)-lead:]
}

func (s *Set) orderKey(k epochKey) uint64 {
	return mix(s.order.Seed, 'o', uint64(k.source), uint64(k.epoch))
}

// windows cuts an epoch where the batches do. Positions are those of the source's stream, epoch after epoch; a
// window is what one step takes.
func (s *Set) windows(k epochKey) windows {
	var w windows
	group, used := int64(s.group), int64(s.used(k.source))
	start := k.epoch * used // of the epoch, in the stream
	first := start / group  // draw that has this position
	step, same := int64(-1), int64(0)
	s.eachDraw(k.source, first, func(draw, of int64) bool {
		at := draw*group - start // where the draw begins in the epoch
		same = step
		step = of
		switch {
		case draw == first:
			w.lead = int(min(used, start-s.windowStart(k.source, draw, of)*group))
		case at >= used:
			w.ends = append(w.ends, int(used))
			w.open = same == step
			return false
		case same != step:
			w.ends = append(w.ends, int(at))
		}
		if at+group > used {
			w.ends = append(w.ends, int(used))
			w.open = true
			return false
		}
		return true
	})
	return w
}

// windowStart returns the first draw of the source in the step that also has the given one.
func (s *Set) windowStart(source int, draw, step int64) int64 {
	if s.groups == 1 {
		return draw
	}
	return s.sched.before(step * int64(s.groups))[source]
}

// eachDraw calls yield for the source's draws from the first on, with the step of each.
func (s *Set) eachDraw(source int, first int64, yield func(draw, step int64) bool) {
	draw := first
	if s.groups == 1 { // every draw is a step of its own, whichever
		for ; yield(draw, draw); draw++ {
		}
		return
	}
	s.sched.walk(source, first, func(d int64) bool {
		draw++
		return yield(draw-1, d/int64(s.groups))
	})
}

// keyer returns what may not occur twice in a batch of the epoch: the query, every positive, and the negatives
// drawn. Language objectives have no false negatives and need none of it.
func (s *Set) keyer(k epochKey) keyer {
	if s.order.Texts != "" {
		return nil
	}
	x := s.sources[k.source].index
	return func(dst []uint64, row uint32) []uint64 {
		lo, hi := x.texts(row)
		positives := lo + 1 + int(x.positives[row])
		dst = append(dst, x.hashes[lo:positives]...)
		negatives, from := hi-positives, 0
		take := min(s.order.HardNegatives, negatives)
		if take > 0 {
			from = rotation(k.epoch, s.order.HardNegatives, negatives)
		}
		for j := range take {
			dst = append(dst, x.hashes[positives+(from+j)%negatives])
		}
		return dst
	}
}

// rotation is where the epoch's choice begins among n texts of which take are drawn: each epoch goes on where
// the one before stopped, so that all are drawn equally often.
func rotation(epoch int64, take, n int) int {
	if take >= n {
		return 0
	}
	return int(epoch % int64(n) * int64(take) % int64(n))
}

// Draws returns the rows of a step's batch in batch order: what a ledger of samples is checked with.
func (s *Set) Draws(step int64) []Draw {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.draws(step))
}
