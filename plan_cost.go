package main

import (
	"fmt"
	"slices"

	"github.com/counterpoint-ml/counterpoint/data"
)

// workers is the number of local workers, or 1 where all workers join from elsewhere.
func (p *prepared) workers() int { return max(p.config.Cluster.Workers, 1) }

func (p *prepared) planNetwork(s *sheet, m *measured, stats data.Stats, h data.Header) {
	n := float64(p.workers())
	others := (n - 1) / n
	wire := m.wire
	if m.why != "" {
		wire = 5 // 40 bits
	}
	var rows float64
	if h.Queries > 0 {
		rows = 4 * float64(h.Slots) * float64(m.architecture.Width)
	}
	if n == 1 {
		s.row("network", "a step: %s of shards; each further worker exchanges %s of embeddings and up to about %s of gradient sums and totals",
			size(4*stats.BatchTokens), size(rows), size(2*wire*float64(m.trainable)))
		return
	}
	shards, rows, sums := 4*stats.BatchTokens/n, others*rows, 2*others*wire*float64(m.trainable)
	place := ", all in this process"
	if p.config.Cluster.Listen != "" || p.config.Cluster.Workers == 0 {
		place = ""
	}
	s.row("network", "a step, each of %s%s: %s of shards, %s of others' embeddings, about %s of gradient sums and totals",
		plural(p.workers(), "worker", "workers"), place, size(shards), size(rows), size(sums))
}

func (p *prepared) planTime(s *sheet, m *measured, stats data.Stats) {
	if m.why != "" {
		s.row("time", "%s", m.why)
		return
	}
	n := float64(p.workers())
	step := m.constant*n + m.token*stats.BatchTokens
	var evaluated float64
	for _, suite := range p.suites {
		for _, tokens := range suite.Header().Tokens {
			evaluated += float64(tokens)
		}
	}
	const forward = 1.0 / 3 // of a training step's work
	evaluated *= m.token * forward
	times := evaluations(p.config.Train.Steps, p.config.Evaluate.Every, p.config.Evaluate.Before)
	steps := float64(p.config.Train.Steps)
	line := fmt.Sprintf("about %s: %s steps of %s", span(steps*step+float64(times)*evaluated), grouped(p.config.Train.Steps), span(step))
	if len(p.suites) > 0 {
		line += fmt.Sprintf(", %s of %s", plural(times, "evaluation", "evaluations"), span(evaluated))
	}
	s.row("time", "%s", line)
	s.row("time", "estimated for %s with %s each, at %s tokens/s, from steps of up to %s tokens run just now",
		plural(p.workers(), "worker", "workers"), plural(p.threads(), "thread", "threads"), count(int64(stats.BatchTokens/step)), count(m.tokens))
}

// evaluations counts how often a run evaluates: every so many steps, at the end, and perhaps before.
func evaluations(steps, every int64, before bool) int64 {
	at := []int64{steps}
	if before {
		at = append(at, 0)
	}
	if every > 0 {
		for s := every; s < steps; s += every {
			at = append(at, s)
		}
	}
	slices.Sort(at)
	return int64(len(slices.Compact(at)))
}
