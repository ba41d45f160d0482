//go:build linux

package trainer

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

// activationBudget is the memory in which "both fit" is meant: activations of a whole batch.
const activationBudget = 1 << 30

// BenchmarkGradCache compares steps whose activations are kept from phase A to C with steps that compute every shard's
// forward pass again, on the largest batch whose activations fit into activationBudget; and beyond it, at four times
// that batch, the time per token with that at the batch itself, both computed again. The three alternate; medians of
// time per real token, by the clock and by the processor's time (for a machine that others use too).
func BenchmarkGradCache(b *testing.B) {
	s := sizes[slices.IndexFunc(sizes, func(s size) bool { return s.name == "small" })]
	dir := s.folder(b)
	for _, mode := range []string{"lora", "full"} {
		b.Run(s.name+"/"+mode, func(b *testing.B) { s.gradCache(b, dir, mode) })
	}
}

func (s size) gradCache(b *testing.B, dir, mode string) {
	config := Config{
		Model:     backbone.Config{Path: dir, Attention: backbone.Bidirectional},
		Loss:      contrastive.Config{Kind: contrastive.InfoNCEKind, Temperature: 0.05},
		Optimizer: optim.Config{Schedule: optim.Schedule{Peak: 1e-4, Decay: optim.Constant}, Clip: 1, WeightDecay: 0.01},
		Steps:     1 << 30,
	}
	if mode == "lora" {
		config.Model.LoRA = &backbone.LoRAConfig{Rank: 16, Alpha: 32}
	}
	keeping := onCPU(b, config, runtime.GOMAXPROCS(0), Options{Keep: activationBudget})
	again := onCPU(b, config, runtime.GOMAXPROCS(0), Options{Keep: 0})

	rows := 1
	for kept(b, keeping, s.triples(b, rows+1)) <= activationBudget {
		rows++
	}
	fits, beyond := s.triples(b, rows), s.triples(b, 4*rows)
	cases := []struct {
		t     *Trainer
		batch triples
	}{{keeping, fits}, {again, fits}, {again, beyond}}
	var wall, cpu [3][]float64
	one := func() {
		for i, c := range cases {
			header, shards := tripleBatch(c.batch)
			start, used := time.Now(), clock(unix.CLOCK_PROCESS_CPUTIME_ID)
			o, err := c.t.Step(b.Context(), header, c.t.Steps(), NewSolo(c.t, shards, header.Slots))
			if err != nil {
				b.Fatal(err)
			}
			wall[i] = append(wall[i], time.Since(start).Seconds()/float64(o.Tokens))
			cpu[i] = append(cpu[i], (clock(unix.CLOCK_PROCESS_CPUTIME_ID)-used).Seconds()/float64(o.Tokens))
		}
	}
	one() // compiles, and repeats an attempt
	wall, cpu = [3][]float64{}, [3][]float64{}
	for b.Loop() {
		one()
	}
	for i := range cases {
		slices.Sort(wall[i])
		slices.Sort(cpu[i])
	}
	middle := func(x [3][]float64, i int) float64 { return x[i][len(x[i])/2] }
	b.ReportMetric(middle(wall, 1)/middle(wall, 0), "recomputed/kept")
	b.ReportMetric(middle(cpu, 1)/middle(cpu, 0), "recomputed/kept-cpu")
	b.ReportMetric(middle(wall, 2)/middle(wall, 1), "beyond/recomputed")
	b.ReportMetric(middle(cpu, 2)/middle(cpu, 1), "beyond/recomputed-cpu")
	b.ReportMetric(float64(rows), "pairs")
	b.ReportMetric(0, "ns/op")
}

// triples repeats the batches of the size to one of so many rows.
func (s size) triples(b *testing.B, rows int) (t triples) {
	all := s.batches(b)
	for i := 0; len(t.Query) < rows; i++ {
		next := all[i%len(all)]
		t.Query, t.Positive, t.Negative = append(t.Query, next.Query...), append(t.Positive, next.Positive...), append(t.Negative, next.Negative...)
	}
	return triples{t.Query[:rows], t.Positive[:rows], t.Negative[:rows]}
}

// kept is the memory of all activations of a batch.
func kept(b *testing.B, tr *Trainer, t triples) (bytes int64) {
	b.Helper()
	var shards []*data.Shard
	_, shards = tripleBatch(t)
	for _, shard := range shards {
		_, backward, err := tr.Bytes(shard.Tokens(), len(shard.Texts))
		if err != nil {
			b.Fatal(err)
		}
		bytes += backward
	}
	return bytes
}
