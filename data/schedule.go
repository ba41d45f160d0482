package data

import (
	"fmt"
	"math"
	"math/big"
)

// A period is the number of draws after which every source has had its share up to one draw.
const (
	logPeriod = 10
	period    = 1 << logPeriod
	logUnit   = 62 // the unit interval in which each source owns a part as wide as its share
	logCell   = logUnit - logPeriod
)

// schedule chooses the source of every draw, a draw being a group of rows of one source.
//
// Each source owns a part of the unit interval as wide as its share. The draws of period p take the points
// (j + o_p)/1024, j = 0..1023, in a shuffled order; o_p moves by the golden ratio. So a source gets the floor or
// the ceiling of its share of every period, and exactly its share in the long run, and how often it was drawn
// before any draw is known without replaying the draws.
type schedule struct {
	seed   uint64
	bounds []uint64 // upper end of each source's part, in units of 2^-62

	// caches, of the last period asked for
	counted int64   // periods that counts covers
	counts  []int64 // draws of each source in them
	order   []uint16
	ordered int64 // period of order, -1 = none
}

// newSchedule gives source i the share weights[i] / sum of weights.
func newSchedule(seed uint64, weights []float64) (*schedule, error) {
	total := new(big.Rat)
	exact := make([]*big.Rat, len(weights))
	for i, w := range weights {
		if !(w > 0) || math.IsInf(w, 0) {
			return nil, fmt.Errorf("data[%d].weight: %v; a positive number is allowed", i, w)
		}
		exact[i] = new(big.Rat).SetFloat64(w)
		total.Add(total, exact[i])
	}
	s := &schedule{seed: mix(seed, 's'), counts: make([]int64, len(weights)), ordered: -1}
	sum := new(big.Rat)
	unit := new(big.Int).Lsh(big.NewInt(1), logUnit)
	for i := range weights {
		sum.Add(sum, exact[i])
		part := new(big.Rat).Quo(sum, total)
		s.bounds = append(s.bounds, new(big.Int).Quo(new(big.Int).Mul(part.Num(), unit), part.Denom()).Uint64())
	}
	return s, nil
}

// offset returns o_p in units of 2^-62, less than a cell.
func (s *schedule) offset(p int64) uint64 {
	return (s.seed + uint64(p)*0x9e3779b97f4a7c15) >> (64 - logCell)
}

func (s *schedule) owner(x uint64) int {
	for i, b := range s.bounds {
		if x < b {
			return i
		}
	}
	panic("data: a point beyond the unit interval")
}

// below returns how many of period p's points lie below b.
func (s *schedule) below(b uint64, p int64) int64 {
	o := s.offset(p)
	if b <= o {
		return 0
	}
	return min(period, int64((b-o+1<<logCell-1)>>logCell))
}

// points returns which point each draw of period p takes.
func (s *schedule) points(p int64) []uint16 {
	if s.ordered != p {
		if s.order == nil {
			s.order = make([]uint16, period)
		}
		permute(s.order, mix(s.seed, uint64(p)))
		s.ordered = p
	}
	return s.order
}

// at returns the source of draw d.
func (s *schedule) at(d int64) int {
	if len(s.bounds) == 1 {
		return 0
	}
	p := d >> logPeriod
	return s.owner(uint64(s.points(p)[d&(period-1)])<<logCell + s.offset(p))
}

// seek makes counts the draws of every source in the periods before p.
func (s *schedule) seek(p int64) {
	if s.counted > p {
		s.counted = 0
		clear(s.counts)
	}
	for ; s.counted < p; s.counted++ {
		last := int64(0)
		for i, b := range s.bounds {
			n := s.below(b, s.counted)
			s.counts[i] += n - last
			last = n
		}
	}
}

// before returns how many of the draws before d are of each source.
func (s *schedule) before(d int64) []int64 {
	if len(s.bounds) == 1 {
		return []int64{d}
	}
	p := d >> logPeriod
	s.seek(p)
	out := append([]int64(nil), s.counts...)
	for e := p << logPeriod; e < d; e++ {
		out[s.at(e)]++
	}
	return out
}

// walk calls yield with the number of the c-th draw of source i, of the c+1-st, and so on until it returns
// false.
func (s *schedule) walk(i int, c int64, yield func(d int64) bool) {
	if len(s.bounds) == 1 {
		for ; yield(c); c++ {
		}
		return
	}
	p, n := int64(0), int64(0) // the period of draw c, and the draws of i before it
	for s.seek(0); ; p++ {
		s.seek(p + 1)
		if s.counts[i] > c {
			break
		}
		n = s.counts[i]
	}
	for d := p << logPeriod; ; d++ {
		if s.at(d) != i {
			continue
		}
		if n >= c && !yield(d) {
			return
		}
		n++
	}
}
