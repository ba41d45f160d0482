package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

// plan writes what the run will do and what it will take: what `train --dry-run` prints and the report keeps. Its time
// is an estimate from a few small steps of the real model on the real data, computed now and thrown away; nothing but
// the data's index is written to disk. A run whose workers cannot fit into this machine is an error. The text is made
// once.
func (p *prepared) plan(w io.Writer) error {
	if p.planned == nil {
		var text bytes.Buffer
		if err := p.compose(&text); err != nil {
			return err
		}
		p.planned = text.Bytes()
	}
	_, err := w.Write(p.planned)
	return err
}

func (p *prepared) compose(w io.Writer) error {
	header, err := p.set.Header(0)
	if err != nil {
		return err
	}
	_, identity, err := p.identity()
	if err != nil {
		return err
	}
	m, err := p.measure(header)
	if err != nil {
		return err
	}
	stats := p.set.Stats()
	s := &sheet{w: w}
	if p.after != "" {
		s.row("run", "%s, identity unknown before stage %s is finished, seed %d", p.config.Name, p.after, p.config.Train.Seed)
	} else {
		s.row("run", "%s, identity %.16s, seed %d", p.config.Name, identity, p.config.Train.Seed)
	}
	p.planModel(s, m)
	p.planData(s, stats)
	p.planBatches(s, stats, header)
	p.planObjective(s)
	p.planMemory(s, m, header)
	p.planNetwork(s, m, stats, header)
	p.planTime(s, m, stats)
	p.planEvaluation(s)
	p.planSafety(s)
	return s.err
}

// sheet writes aligned rows: a label once, then its lines.
type sheet struct {
	w    io.Writer
	last string
	err  error
}

func (s *sheet) row(label, format string, args ...any) {
	shown := label
	if label == s.last {
		shown = ""
	}
	s.last = label
	if _, err := fmt.Fprintf(s.w, "%-12s %s\n", shown, fmt.Sprintf(format, args...)); err != nil && s.err == nil {
		s.err = err
	}
}

func (p *prepared) planModel(s *sheet, m *measured) {
	c, a := p.config.Model, m.architecture
	name := c.Path
	if name == "" {
		name = c.Preset + " (random weights)"
	} else {
		name = relative(name)
	}
	s.row("model", "%s: %s, %d layers of width %d, vocabulary %s", name, a.Family, a.Layers, a.Width, grouped(a.Vocab))
	p.planOrigin(s)
	trains := "all train"
	if l := c.LoRA; l != nil {
		targets := "all linears"
		if len(l.Targets) > 0 && !slices.Contains(l.Targets, "all-linear") {
			targets = strings.Join(l.Targets, ", ")
		}
		trains = fmt.Sprintf("%s train (%.2f %%): LoRA of rank %d, alpha %g, dropout %g on %s",
			count(m.trainable), 100*float64(m.trainable)/float64(m.total), l.Rank, l.Alpha, l.Dropout, targets)
		if n := len(l.RankPattern) + len(l.AlphaPattern); n > 0 {
			trains += fmt.Sprintf(", %s of its own for some", plural(n, "rank or alpha", "ranks and alphas"))
		}
	}
	s.row("model", "%s parameters, %s", count(m.total), trains)
	attention := c.Attention
	if attention == "" {
		attention = map[bool]string{true: "bidirectional", false: "causal"}[a.Bidirectional]
	}
	line := attention + " attention"
	if c.Attention == backbone.Annealed {
		line = fmt.Sprintf("causal attention, opened to bidirectional over %s", plural(c.AnnealSteps, "step", "steps"))
		if c.AnnealSteps > p.config.Train.Steps {
			line += " (more than the run has)"
		}
	}
	if e := c.Evaluation(); e != "" && e != attention {
		line += " (evaluation: " + e + ")"
	}
	pooling := strings.ReplaceAll(c.Pooling, "_", " ")
	if c.PoolPrompt != nil && !*c.PoolPrompt {
		pooling += " without the instruction"
	}
	s.row("model", "%s, %s pooling", line, pooling)
}

// planOrigin says which adapters the weights begin with.
func (p *prepared) planOrigin(s *sheet) {
	c := p.config.Model
	switch {
	case p.after != "" && p.previous == configs.Continued:
		s.row("model", "continues from the adapter that stage %s makes", p.after)
	case p.after != "" && p.previous == configs.Merged:
		s.row("model", "the adapter that stage %s makes is merged into it", p.after)
	case p.after != "":
		s.row("model", "its weights are those that stage %s makes", p.after)
	}
	if n := len(p.merged()); n > 0 {
		s.row("model", "%s merged into it: %s", plural(n, "adapter is", "adapters are"), shortDigests(p.merged()))
	}
	if c.Adapter != "" {
		s.row("model", "continues from the adapter %s, %.16s", relative(c.Adapter), p.initial())
	}
}

func shortDigests(digests []string) string {
	var out []string
	for _, d := range digests {
		out = append(out, d[:min(16, len(d))])
	}
	return strings.Join(out, ", ")
}

func (p *prepared) planData(s *sheet, stats data.Stats) {
	for _, x := range stats.Sources {
		line := fmt.Sprintf("%s: %s rows in the format %s, %s tokens in %s texts an epoch, the longest text has %s",
			x.Name, grouped(x.Rows), x.Format, count(x.Tokens), grouped(x.Texts), grouped(x.Longest))
		if len(stats.Sources) > 1 {
			line += fmt.Sprintf(", %.0f %% of the draws", 100*x.Share)
		}
		s.row("data", "%s", line)
		s.row("data", "  %s longer than %s tokens and cut, %s duplicate documents, %s skipped",
			plural(x.Truncated, "text is", "texts are"), grouped(p.config.Train.MaxLength), grouped(x.Duplicates), plural(x.Skipped, "line", "lines"))
		const listed = 3
		for _, fault := range x.Faults[:min(len(x.Faults), listed)] {
			s.row("data", "    %s", fault)
		}
		if x.Limit > 0 {
			s.row("data", "  of the file only the first %s rows", grouped(x.Limit))
		}
		if x.Unjudged > 0 {
			s.row("data", "  %s left out", plural(x.Unjudged, "query without a relevant document is", "queries without a relevant document are"))
		}
	}
}

func (p *prepared) planBatches(s *sheet, stats data.Stats, h data.Header) {
	longest := slices.Max(h.Tokens)
	s.row("batches", "%s rows, about %s tokens; the first: %s texts in %s, at most %s tokens each (shard_tokens %s)",
		grouped(p.order.Batch), count(int64(stats.BatchTokens)), grouped(h.Slots), plural(len(h.Tokens), "shard", "shards"),
		grouped(longest), grouped(p.order.ShardTokens))
	switch hard := h.Slots - 2*h.Queries; {
	case p.config.Loss.Kind == contrastive.ExplicitKind:
		s.row("batches", "%.3g hard negatives a query, its own alone", stats.Negatives)
	case h.Queries > 0:
		s.row("batches", "%s negatives a query: %s in-batch and %s hard (%.3g a row), over the whole batch whatever the workers",
			grouped(h.Queries-1+hard), grouped(h.Queries-1), grouped(hard), stats.Negatives)
	}
	steps := p.config.Train.Steps
	s.row("steps", "%s, %.3g epochs of %.4g steps", grouped(steps), float64(steps)/stats.StepsAnEpoch, stats.StepsAnEpoch)
}

func clip(norm float64) string {
	if norm == 0 {
		return "no clipping"
	}
	return fmt.Sprintf("gradient clipped to norm %g", norm)
}

// words is a schedule in a sentence.
func words(c optim.Schedule, steps int64) string {
	rise := fmt.Sprintf("%g", c.Peak)
	if c.Warmup > 0 {
		rise = fmt.Sprintf("rises to %g over %s", c.Peak, plural(c.Warmup, "step", "steps"))
	}
	if c.Warmup >= steps {
		return rise + ", which is the whole run"
	}
	switch c.Decay {
	case optim.Constant:
		return rise + ", then stays"
	case optim.Cosine:
		return fmt.Sprintf("%s, then falls along a cosine to %g", rise, c.Peak*c.Floor)
	}
	return fmt.Sprintf("%s, then falls linearly to %g", rise, c.Peak*c.Floor)
}

func (p *prepared) planEvaluation(s *sheet) {
	c := p.config.Evaluate
	if len(p.suites) == 0 {
		s.row("evaluation", "none")
	}
	for i, suite := range p.suites {
		var tokens int64
		for _, n := range suite.Header().Tokens {
			tokens += int64(n)
		}
		sheet := suite.Sheet()
		what := fmt.Sprintf("%s queries, %s documents", grouped(len(suite.Queries)), grouped(len(suite.Documents)))
		if sheet.Kind != "" {
			what = fmt.Sprintf("%s, %s texts", sheet.Kind, grouped(suite.Header().Slots))
		}
		s.row("evaluation", "%s: %s, %s tokens, %s cut; %s; %s", suite.Name, what, count(tokens), plural(suite.Truncated(), "text", "texts"), evaluate.Main(&sheet), p.asked[i])
	}
	if len(p.suites) > 0 {
		s.row("evaluation", "%s", when(c.Every, c.Before))
	}
}

func when(every int64, before bool) string {
	switch {
	case every > 0 && before:
		return fmt.Sprintf("before the first step, every %s and at the end", plural(every, "step", "steps"))
	case every > 0:
		return fmt.Sprintf("every %s and at the end", plural(every, "step", "steps"))
	case before:
		return "before the first step and at the end"
	}
	return "at the end"
}

func (p *prepared) planSafety(s *sheet) {
	c := p.config.Checkpoint
	line := fmt.Sprintf("%s into %s, the newest %d kept", when(c.Every, false), place(p.store), c.Keep)
	if c.Best != "" {
		line += " and the best by " + c.Best
	}
	s.row("checkpoints", "%s", line)
	workers := plural(p.config.Cluster.Workers, "local worker", "local workers") + "; others may join and leave"
	s.row("failures", "%s: a silent one is replaced after %s, and the result stays the same", workers, p.config.Cluster.FailureTimeout)
	if p.config.Cluster.Mixed {
		s.row("failures", "cluster.mixed: with workers of several kinds the result depends on which kind computed which shard")
	}
}
