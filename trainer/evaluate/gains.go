package evaluate

import (
	"math"
	"slices"
)

// gains are the gains of grades where they are not the grades themselves (-m ndcg.1=3.5,2=9).
type gains map[int]float64

func (g gains) of(grade int) float64 {
	if v, ok := g[grade]; ok {
		return v
	}
	return max(0, float64(grade)) // unjudged: 0
}

// rung is how many judged documents have a gain.
type rung struct {
	gain float64
	n    int
}

// ideal steps through the gains of all judged documents, best first, as trec_eval does: after the last positive one
// next is 0 or below.
type ideal struct {
	rungs []rung
	used  int
}

func (r Ranking) idealGains(g gains) *ideal {
	counts := map[int]int{0: r.zeros}
	for _, grade := range r.ideal {
		counts[grade]++
	}
	d := &ideal{}
	for grade, n := range counts {
		if n > 0 {
			d.rungs = append(d.rungs, rung{g.of(grade), n})
		}
	}
	slices.SortFunc(d.rungs, func(a, b rung) int {
		switch {
		case a.gain > b.gain:
			return -1
		case a.gain < b.gain:
			return 1
		}
		return b.n - a.n // equal gains: the order does not matter to sums, but is fixed
	})
	return d
}

// next is the gain of the next best document, 0 when there is none.
func (d *ideal) next() float64 {
	for len(d.rungs) > 0 && d.used == d.rungs[0].n {
		d.rungs, d.used = d.rungs[1:], 0
	}
	if len(d.rungs) == 0 {
		return 0
	}
	d.used++
	return d.rungs[0].gain
}

func discounted(gain float64, i int) float64 { return gain / math.Log2(float64(i+2)) }

// ndcg is NDCG with other gains; negative gains count in the ranking, not in the ideal.
func (r Ranking) ndcg(g gains) float64 {
	if len(g) == 0 {
		return r.NDCG(0)
	}
	dcg, best := 0.0, 0.0
	for i, grade := range r.grades {
		dcg += discounted(g.of(grade), i)
	}
	for i, d := 0, r.idealGains(g); ; i++ {
		gain := d.next()
		if gain <= 0 {
			break
		}
		best += discounted(gain, i)
	}
	return ratio(dcg, best)
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// ndcgAtRelevant is trec_eval's ndcg_rel: the mean over the documents with a gain of the NDCG at their rank, or at the
// end of the ranking where they are not retrieved.
func (r Ranking) ndcgAtRelevant(g gains) float64 {
	d := r.idealGains(g)
	gain, dcg, best, sum := math.Inf(1), 0.0, 0.0, 0.0
	n, retrieved := 0, 0
	for i := 0; i < len(r.grades) || gain > 0; i++ {
		own := 0.0
		if i < len(r.grades) {
			own = g.of(r.grades[i])
			dcg += discounted(own, i)
		}
		if gain > 0 {
			if gain = d.next(); gain > 0 {
				n++
				best += discounted(gain, i)
			}
		}
		if own > 0 {
			retrieved++
			sum += ratio(dcg, best)
		}
	}
	if sum += float64(float64(n-retrieved) * ratio(dcg, best)); sum <= 0 {
		return 0
	}
	return sum / float64(n)
}

// ndcgAtLevels is trec_eval's Rndcg: the mean of the NDCG at the ranks where the ideal gain changes, the last rank
// among them once the ideal has ended.
func (r Ranking) ndcgAtLevels(g gains) float64 {
	if r.relevant == 0 {
		return 0
	}
	d := r.idealGains(g)
	was, dcg, best, sum, changes := math.NaN(), 0.0, 0.0, 0.0, 0.0
	change := func() {
		if best > 0 {
			sum += dcg / best
			changes++
		}
	}
	gain, i := math.Inf(1), 0
	for ; i < len(r.grades) && gain > 0; i++ {
		if gain = d.next(); gain != was {
			change()
			was = gain
		}
		dcg += discounted(g.of(r.grades[i]), i)
		if gain > 0 {
			best += discounted(gain, i)
		}
	}
	if i < len(r.grades) {
		for ; i < len(r.grades); i++ {
			dcg += discounted(g.of(r.grades[i]), i)
		}
		change()
	}
	for ; gain > 0; i++ {
		if gain = d.next(); gain != was {
			change()
			was = gain
		}
		if gain > 0 {
			best += discounted(gain, i)
		}
	}
	return ratio(sum, changes)
}

// normalizedGain is trec_eval's G: a document's gain over log2(2 + what the ideal list would have gained, at least 1 a
// document, less what this one has), summed and divided by all gains.
func (r Ranking) normalizedGain(g gains) float64 {
	d := r.idealGains(g)
	own, cost, total, sum := 0.0, 0.0, 0.0, 0.0
	gain := math.Inf(1)
	for i := 0; i < len(r.grades) || gain > 0; i++ {
		if gain > 0 {
			gain = max(0, d.next())
			total += gain
		}
		if i < len(r.grades) {
			v := g.of(r.grades[i])
			own += v
			cost += max(1, gain)
			if v != 0 {
				sum += v / math.Log2(2+cost-own)
			}
		}
	}
	return ratio(sum, total)
}

// binaryGain is trec_eval's binG: 1/R sum over relevant retrieved of 1 / log2(2 + documents above that are not
// relevant).
func (r Ranking) binaryGain() float64 {
	sum := 0.0
	for i, at := range r.found {
		sum += 1 / math.Log2(float64(2+at-(i+1)))
	}
	return r.ofRelevant(sum)
}

// rankBiased is RBP (Moffat and Zobel, ACM TOIS 27(1), 2008): (1 - p) sum gain_i p^(i-1). Gains beyond 0..1 are scaled
// into it; unjudged documents gain nothing.
func (r Ranking) rankBiased(p float64, g gains) float64 {
	lo, hi := 0.0, 1.0
	for _, grade := range r.ideal {
		lo, hi = min(lo, g.of(grade)), max(hi, g.of(grade))
	}
	sum, weight := 0.0, 1.0
	for _, grade := range r.grades {
		if grade >= 0 {
			sum += float64((g.of(grade) - lo) / (hi - lo) * weight)
		}
		weight *= p
	}
	return (1 - p) * sum
}
