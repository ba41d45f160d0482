package enginetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"gorgonia.org/gorgonia"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// block is a small transformer with adapters, residuals, a tied head and every second result in use: what single ops
// cannot show, such as values that die, sums that fuse and gradients with two terms.
func block(b *ops.Builder, d *draw, plain bool) (loss *gorgonia.Node, in, grads gorgonia.Nodes) {
	size := func(n int) int {
		if plain {
			return actual(n, d.p.at)
		}
		return n
	}
	for i, l := range d.p.leaves {
		var shape []int
		for _, n := range l.shape {
			shape = append(shape, size(n))
		}
		in = append(in, b.Input(l.kind, fmt.Sprintf("x%d", i), shape...))
	}
	ids, cu, texts, step, rows, targets, weights := in[0], in[1], in[2], in[3], in[4], in[5], in[6]
	table, norm1, qkv, qn, o, norm2, gateup, down, norm, A, B := in[7], in[8], in[9], in[10], in[11], in[12], in[13], in[14], in[15], in[16], in[17]
	x := b.Apply(ops.Embed{}, ids, table)
	for range 2 {
		h := b.Apply(ops.RMSNorm{Eps: 1e-6}, x, norm1)
		q := b.Apply(ops.Linear{}, h, qkv)
		q = b.Apply(ops.HeadNorm{Heads: 2, KV: 1, HeadDim: 4, Eps: 1e-6}, q, qn, qn)
		q = b.Apply(ops.Rotary{Heads: 2, KV: 1, HeadDim: 4, Frequencies: []float32{1, 0.1}}, q, cu)
		a := b.Apply(ops.Attention{Heads: 2, KV: 1, HeadDim: 4}, q, cu)
		low := b.Apply(ops.Down{Scale: 2, Dropout: ops.Dropout{Rate: 0.2, Seed: 1, Site: 1}}, a, A, texts, cu, step)
		up := b.Apply(ops.Up{Parts: ops.Parts{{Width: 8, Rank: 2, Scale: 1}}}, a, o, low, B)
		x = b.Apply(ops.Add{}, x, up)
		h = b.Apply(ops.RMSNorm{Eps: 1e-6}, x, norm2)
		m := b.Apply(ops.SwiGLU{}, b.Apply(ops.Linear{}, h, gateup))
		x = b.Apply(ops.Add{}, x, b.Apply(ops.Linear{}, m, down))
	}
	h := b.Apply(ops.Select{}, b.Apply(ops.RMSNorm{Eps: 1e-6}, x, norm), rows)
	cost := b.Apply(ops.CrossEntropy{}, h, table, targets, weights)
	grads = b.Grad(cost, table, A, B, norm)
	return ops.LossOf(b, cost), in, grads
}

func transformer(t *testing.T, dev engine.Device) {
	const seed = 11
	t.Logf("seed %d", seed)
	lens := []int{5, 1, 9, 2}
	d := newDraw(rand.New(rand.NewPCG(seed, 1)), lens, 7)
	d.below(tokens, 20).cu().below(texts, 1000).below(1, 9).below(picks, 17).below(picks, 20).floats(ops.Vector, 1, picks)
	d.matrix(20, 8).floats(ops.Vector, 1, 8).matrix(16, 8).floats(ops.Vector, 1, 4).matrix(8, 8).floats(ops.Vector, 1, 8).
		matrix(12, 8).matrix(8, 6).floats(ops.Vector, 1, 8).matrix(2, 8).matrix(8, 2)

	var all [][][]float32
	for _, own := range []bool{true, false} {
		b := ops.New(engine.Host{Device: dev})
		loss, in, grads := block(b, d, true)
		must(t, b.Err())
		for i, l := range d.p.leaves {
			let(t, in[i], l)
		}
		all = append(all, machine(t, dev, b.Graph(), own, append(gorgonia.Nodes{loss}, grads...)))
	}
	for _, fuse := range []bool{false, true} {
		for _, slack := range []int{0, 13} {
			all = append(all, d.program(t, dev, fuse, slack))
		}
	}
	vm, tape, plain, bucket, fused, fusedBucket := all[0], all[1], all[2], all[3], all[4], all[5]
	for i := range vm {
		sameBits(t, fmt.Sprintf("result %d of gorgonia's machine and of the VM", i), tape[i], vm[i])
		sameBits(t, fmt.Sprintf("result %d of a program and of the VM", i), plain[i], vm[i])
		sameBits(t, fmt.Sprintf("result %d in a larger bucket", i), bucket[i], vm[i])
		sameBits(t, fmt.Sprintf("result %d fused, in a larger bucket", i), fusedBucket[i], fused[i])
		wide := make([]float64, len(vm[i]))
		for j, v := range vm[i] {
			wide[j] = float64(v)
		}
		closeTo(t, fmt.Sprintf("result %d fused", i), fused[i], wide, 1e-5)
	}
}

// program runs the block as training does.
func (d *draw) program(t *testing.T, dev engine.Device, fuse bool, slack int) [][]float32 {
	b := ops.New(nil)
	loss, _, grads := block(b, d, false)
	must(t, b.Err())
	outs := []engine.Output{{Node: loss}}
	for _, n := range grads {
		outs = append(outs, engine.Output{Node: n})
	}
	at := d.p.at
	bucket := engine.Extents{Tokens: at.Tokens + slack, Texts: at.Texts + slack, Picks: at.Picks + slack}
	prog, err := engine.Compile(dev, b.Graph(), engine.Options{Largest: bucket, Stages: [][]engine.Output{outs}, Fuse: fuse})
	must(t, err)
	arena, err := dev.Alloc(prog.Bytes())
	must(t, err)
	f := prog.Frame()
	must(t, f.Bind(arena, at))
	for i, l := range d.p.leaves {
		must(t, f.Set(fmt.Sprintf("x%d", i), append(engine.Bytes(l.f), engine.Bytes(l.i)...)))
	}
	must(t, f.Run(0))
	var out [][]float32
	for i := range outs {
		out = append(out, read(t, dev, f.Output(0, i)))
	}
	return out
}
