package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// outcome is a measured row.
type outcome struct {
	Name      string
	Layout    string // of the peer's fastest variant
	Pairs     []pair
	Summary   summary // of the pairs between which the peak held, or of all if none is left
	Dropped   int
	Compiled  float64 // the peer once with torch.compile; 0 = not measured
	Bar, Goal float64
	Verdict   string
	Memory    [2]float64 // peak bytes of ours and of the peer
	Unit      string
}

// peer measures the rows and prints the table. A row that cannot be measured does not stop the others.
func peer(o options) error {
	var all []outcome
	var errs error
	for _, row := range peerRows {
		if !o.wants(row.name) {
			continue
		}
		begin := time.Now()
		out, err := o.alternate(row)
		if err != nil {
			progress("%s: %v", row.name, err)
			errs = errors.Join(errs, fmt.Errorf("%s: not measured", row.name))
			continue
		}
		progress("%s: %.2fx, %s; %.0f s", row.name, out.Summary.Ratio, out.Verdict, time.Since(begin).Seconds())
		all = append(all, out)
	}
	others, err := o.fights()
	all, errs = append(all, others...), errors.Join(errs, err)
	table := [][]string{{"row", "ours", "peer", "torch --compile", "ratio, median (range; pairs)", "ours, % of FMA peak", "FMA peak now", "bar", ""}}
	for _, r := range all {
		table = append(table, r.cells())
		if r.Name == memoryRow && r.Memory[1] > 0 {
			table = append(table, r.memory())
		}
	}
	var alone []figure
	for _, row := range limitRows { // without a peer, but of the same table
		if row.name != "gradcache" && row.name != "load" || !o.wants(row.name) {
			continue
		}
		figures, err := o.limit(o.work, row)
		alone, errs = append(alone, figures...), errors.Join(errs, err)
	}
	for _, f := range alone {
		table = append(table, []string{f.Name, f.Value, "", "", "", "", "", f.Bar, verdict(f.Met)})
	}
	return errors.Join(o.write(table, map[string]any{"rows": all, "alone": alone}), errs)
}

// alternate measures A, B, A, B: ours, the peer. The first round tries every variant of the peer; those within a tenth
// of the fastest go on.
func (o options) alternate(row peerRow) (outcome, error) {
	out := outcome{Name: row.name, Bar: row.bar, Goal: row.goal, Unit: "tokens/s"}
	steps := row.steps
	if o.steps > 0 {
		steps = o.steps
	}
	file, err := o.lengths(row, steps)
	if err != nil {
		return out, err
	}
	binary, err := build(o.work, row.pkg)
	if err != nil {
		return out, err
	}
	pairs := map[variant][]pair{}
	alive := variants
	linear := 0.0
	for round := 0; round < o.rounds || round < 2*o.rounds && enough(pairs, alive) < o.rounds; round++ {
		mine := pair{Peaks: []float64{o.peak()}}
		results, memory, err := benchmark(binary, row.match, strconv.Itoa(steps)+"x", "COUNTERPOINT_BATCHES="+file)
		if err != nil {
			return out, err
		}
		mine.Ours, mine.Share = results[0].metrics["tokens/s"], results[0].metrics["%peak"]
		mine.Peaks = append(mine.Peaks, o.peak())
		out.Memory[0] = max(out.Memory[0], float64(memory))
		for _, v := range alive {
			m, err := o.measure(row, steps, v)
			if err != nil {
				return out, err
			}
			p := mine
			p.Peer, p.Peaks, linear = m.Rate, append(slices.Clone(mine.Peaks), m.Peaks...), m.Linear
			if p.Share == 0 && median(mine.Peaks) > 0 {
				p.Share = 100 * row.flops * linear * 1e6 * p.Ours / (median(mine.Peaks) * 1e9)
			}
			pairs[v] = append(pairs[v], p)
			out.Memory[1] = max(out.Memory[1], m.Memory*(1<<20))
		}
		if round == 0 {
			best := slices.MaxFunc(alive, func(a, b variant) int { return compare(pairs[a][0].Peer, pairs[b][0].Peer) })
			alive = slices.DeleteFunc(slices.Clone(alive), func(v variant) bool { return pairs[v][0].Peer < 0.9*pairs[best][0].Peer })
		}
	}
	best := slices.MaxFunc(alive, func(a, b variant) int {
		return compare(summarize(pairs[a]).Peer, summarize(pairs[b]).Peer)
	})
	out.settle(row, best, pairs[best])
	if row.compile && o.compile {
		m, err := o.measure(row, steps, best, "--compile")
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: torch.compile:", err)
		}
		out.Compiled = m.Rate
	}
	return out, nil
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// enough is how many pairs, of the variant that has most, lie between steady peaks.
func enough(pairs map[variant][]pair, alive []variant) (n int) {
	for _, v := range alive {
		n = max(n, len(steady(pairs[v])))
	}
	return n
}

// settle chooses the pairs that count and judges them.
func (r *outcome) settle(row peerRow, v variant, pairs []pair) {
	kept := steady(pairs)
	r.Layout, r.Pairs, r.Dropped = v.String(), pairs, len(pairs)-len(kept)
	if len(kept) == 0 {
		kept = pairs
	}
	r.Summary = summarize(kept)
	switch {
	case row.bar == 0:
		r.Verdict = "no bar"
	case r.Summary.Ratio >= row.bar:
		r.Verdict = "met by ratio"
	case row.share > 0 && r.Summary.Share >= row.share:
		r.Verdict = fmt.Sprintf("met by %.0f %% of peak", row.share)
	default:
		r.Verdict = "MISSED"
	}
	if r.Dropped == len(pairs) {
		r.Verdict += " (the peak moved in every pair)"
	}
}

// memoryRow is the row whose peak memory has a bar: at most half of the peer's.
const memoryRow = "smollm2 LoRA"

func (r outcome) memory() []string {
	ratio := r.Memory[0] / r.Memory[1]
	return []string{
		r.Name + ", peak memory of the process", fmt.Sprintf("%.2f GB", r.Memory[0]/1e9), fmt.Sprintf("%.2f GB", r.Memory[1]/1e9), "",
		fmt.Sprintf("%.2f", ratio), "", "", "<= 0.5x (goal 1.2 GB)", verdict(ratio <= 0.5),
	}
}

func (r outcome) cells() []string {
	s := r.Summary
	compiled, bar, share := "", "", ""
	if r.Compiled > 0 {
		compiled = amount(r.Compiled)
	}
	if r.Bar > 0 {
		bar = fmt.Sprintf(">= %.1fx", r.Bar)
	}
	if r.Goal > 0 {
		bar += fmt.Sprintf(" (goal %.1fx)", r.Goal)
	}
	if s.Share > 0 {
		share = fmt.Sprintf("%.0f %%", s.Share)
	}
	return []string{
		r.Name, amount(s.Ours) + " " + r.Unit, fmt.Sprintf("%s (%s)", amount(s.Peer), r.Layout), compiled,
		fmt.Sprintf("%.2f (%.2f - %.2f; %d of %d)", s.Ratio, s.Least, s.Most, s.Pairs, len(r.Pairs)),
		share, fmt.Sprintf("%.0f GFLOP/s", s.Peak), bar, r.Verdict,
	}
}

// amount writes a rate with three digits at least.
func amount(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
