package main

import "slices"

// median of values; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// pair is one alternation: ours, then the peer's, each in the unit of the row, with the FMA peaks in GFLOP/s read
// around both.
type pair struct {
	Ours, Peer float64
	Share      float64   // ours, in % of the FMA peak just then; 0 = not known
	Peaks      []float64 // before ours, after ours, before the peer's, after it
}

// moved is by how much the machine's peak changed during the pair.
func (p pair) moved() float64 {
	if len(p.Peaks) == 0 || slices.Min(p.Peaks) <= 0 {
		return 1
	}
	return slices.Max(p.Peaks) / slices.Min(p.Peaks)
}

// steady keeps the pairs between which the peak moved by at most a fifth.
func steady(pairs []pair) (kept []pair) {
	for _, p := range pairs {
		if p.moved() <= 1.2 {
			kept = append(kept, p)
		}
	}
	return kept
}

// summary of pairs. Where higher is better a ratio is ours over the peer's.
type summary struct {
	Ours, Peer         float64 // medians
	Ratio, Least, Most float64 // median and range of the pairs' ratios
	Share, Peak        float64 // medians: ours in % of the peak, and the peak
	Pairs              int
}

func summarize(pairs []pair) summary {
	var s summary
	var ours, peers, ratios, shares, peaks []float64
	for _, p := range pairs {
		ours, peers, ratios = append(ours, p.Ours), append(peers, p.Peer), append(ratios, p.Ours/p.Peer)
		if p.Share > 0 {
			shares = append(shares, p.Share)
		}
		peaks = append(peaks, p.Peaks...)
	}
	if len(pairs) == 0 {
		return s
	}
	return summary{median(ours), median(peers), median(ratios), slices.Min(ratios), slices.Max(ratios), median(shares), median(peaks), len(pairs)}
}
