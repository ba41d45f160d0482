package optim

import (
	"fmt"
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/simd"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// Run executes body(0) .. body(n-1) in any order, on as many threads as it likes; nil runs them in order here. No
// result of this package depends on it.
type Run func(n int, body func(i int))

// AdamW updates the flat vector of trainable parameters: Loshchilov and Hutter 2019, algorithm 2, with torch's
// order of operations. Every worker applies it to the same total and so holds the same bits: it uses IEEE float32
// multiplication, addition, division and square root only, one rounding each, never a fused multiply-add.
type AdamW struct {
	Weights []float32 // [P] the parameters, shared with the model
	First   []float32 // [P] m
	Second  []float32 // [P] v

	config  Config
	steps   int64
	offsets fixed.Offsets
	decay   []bool // [tensors]
	run     Run
}

// New returns an optimizer with zero moments. decay[t] says whether the weight decay acts on tensor t (it should on
// two-dimensional ones only); steps is the length of the schedule.
func New(c Config, steps int64, weights []float32, o fixed.Offsets, decay []bool, run Run) *AdamW {
	if o.Size() != len(weights) || o.Tensors() != len(decay) {
		panic(fmt.Sprintf("optim: %d weights in %d tensors, %d decays, offsets of %d", len(weights), o.Tensors(), len(decay), o.Size()))
	}
	if run == nil {
		run = serial
	}
	return &AdamW{
		Weights: weights, First: make([]float32, len(weights)), Second: make([]float32, len(weights)),
		config: c.Filled(), steps: steps, offsets: o, decay: decay, run: run,
	}
}

func serial(n int, body func(i int)) {
	for i := range n {
		body(i)
	}
}

// blocks returns the number of fixed.Block sized parts of the parameters.
func (a *AdamW) blocks() int { return (len(a.Weights) + fixed.Block - 1) / fixed.Block }

func (a *AdamW) block(i int) (lo, hi int) {
	return i * fixed.Block, min((i+1)*fixed.Block, len(a.Weights))
}

// Norm returns the global L2 norm of a total: float64 sums of squares of fixed blocks of its float32 values in
// tensor order, added in a fixed tree.
func (a *AdamW) Norm(total *fixed.Sum) float64 { return a.norm(total, nil) }

// norm is Norm; leaves, unless nil, are total's (fixed.Sum.Leaf), from the same pass over memory.
func (a *AdamW) norm(total *fixed.Sum, leaves []fixed.Leaf) float64 {
	sums := make([]float64, a.blocks())
	a.run(len(sums), func(i int) {
		if leaves != nil {
			leaves[i] = total.Leaf(i)
		}
		lo, hi := a.block(i)
		g := gradient(total, a.offsets, lo, hi)
		sums[i] = simd.SumSquares(*g)
		scratch.Put(g)
	})
	return math.Sqrt(tree(sums))
}

// tree adds in the order of a binary tree that depends on the number of values only.
func tree(x []float64) float64 {
	switch len(x) {
	case 0:
		return 0
	case 1:
		return x[0]
	}
	half := 1
	for half*2 < len(x) {
		half *= 2
	}
	return tree(x[:half]) + tree(x[half:])
}

// Scalars returns the numbers of step s for a gradient of the given norm, computed in float64 and rounded once.
func (a *AdamW) Scalars(s int64, norm float64) simd.AdamWScalars {
	c, k, rate := a.config, float64(s+1), a.Rate(s)
	return simd.AdamWScalars{
		Clip: float32(c.ClipFactor(norm)), Keep: float32(1 - rate*c.WeightDecay),
		Beta1: float32(c.Beta1), Rest1: float32(1 - c.Beta1), Beta2: float32(c.Beta2), Rest2: float32(1 - c.Beta2),
		Size: float32(rate / (1 - math.Pow(c.Beta1, k))), Root: float32(math.Sqrt(1 - math.Pow(c.Beta2, k))),
		Epsilon: float32(c.Epsilon),
	}
}

// Rate returns the learning rate of step s.
func (a *AdamW) Rate(s int64) float64 { return a.config.Schedule.Rate(s, a.steps) }

// Updated is what a step's update leaves behind.
type Updated struct {
	Norm       float64 // of the gradient, before clipping
	Gradient   string  // digest of the total (fixed.Sum.Digest)
	Parameters string  // AdamW.Digest after the update
}

// Update applies step s (0-based) with the sum of all gradients, in two passes over memory: norm and digest of the
// total; update and digest of parameters and moments.
func (a *AdamW) Update(s int64, total *fixed.Sum) (u Updated) {
	leaves := make([]fixed.Leaf, a.blocks())
	u.Norm = a.norm(total, leaves)
	u.Gradient = total.Root(leaves)
	k := a.Scalars(s, u.Norm)
	a.run(a.blocks(), func(i int) {
		lo, hi := a.block(i)
		g := gradient(total, a.offsets, lo, hi)
		a.offsets.Pieces(lo, hi, func(t, from, to int) {
			k := k
			if !a.decay[t] {
				k.Keep = 1
			}
			simd.AdamW(nil, a.Weights[from:to], a.First[from:to], a.Second[from:to], (*g)[from-lo:to-lo], k)
		})
		scratch.Put(g)
		leaves[i] = leaf(a.Weights, a.First, a.Second, i)
	})
	u.Parameters = fixed.Root(leaves, uint64(len(a.Weights)))
	return u
}

// Digest returns the tree hash of the parameters and both moments, block by block.
func (a *AdamW) Digest() string { return Digest(a.Weights, a.First, a.Second, a.run) }

// Digest returns AdamW.Digest of parameters and moments [P] that lie somewhere else, such as in a checkpoint.
func Digest(weights, first, second []float32, run Run) string {
	if run == nil {
		run = serial
	}
	size := len(weights)
	leaves := make([]fixed.Leaf, (size+fixed.Block-1)/fixed.Block)
	run(len(leaves), func(i int) { leaves[i] = leaf(weights, first, second, i) })
	return fixed.Root(leaves, uint64(size))
}

// leaf is block i of the tree hash.
func leaf(weights, first, second []float32, i int) (l fixed.Leaf) {
	lo, hi := i*fixed.Block, min((i+1)*fixed.Block, len(weights))
	for _, x := range [][]float32{weights, first, second} {
		l.Write(fixed.Bytes(x[lo:hi]))
	}
	return l
}
