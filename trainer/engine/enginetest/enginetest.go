// Package enginetest is the suite that every engine.Device must pass: each op, forward and gradient, against float64
// references and their finite differences, at odd shapes; the same bits again, in any bucket and any stage; and whole
// graphs against gorgonia's own machine.
package enginetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// Tolerance is how far a device may be from float64, relative to the largest value of the result.
type Tolerance struct{ Forward, Gradient float64 }

// Float32 suits devices that store and add in float32.
var Float32 = Tolerance{Forward: 3e-6, Gradient: 2e-5}

// Run runs the suite. open returns a device that the test owns.
func Run(t *testing.T, open func(t testing.TB) engine.Device, tol Tolerance) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			seed := uint64(len(c.name)) * 7919
			t.Logf("seed %d", seed)
			p := c.problem(rand.New(rand.NewPCG(seed, 1)))
			p.name = c.name
			dev := open(t)
			out, grads := p.run(t, dev, 0)
			p.compareForward(t, out, tol.Forward)
			p.compareGradients(t, grads, tol.Gradient, rand.New(rand.NewPCG(seed, 2)))
			for _, slack := range []int{0, 1, 37} { // again, and in larger buckets
				out2, grads2 := p.run(t, dev, slack)
				sameBits(t, fmt.Sprintf("output with a bucket %d larger", slack), out2, out)
				for i := range grads {
					sameBits(t, fmt.Sprintf("gradient %d with a bucket %d larger", i, slack), grads2[i], grads[i])
				}
			}
			if !c.large {
				p.compareMachine(t, dev, out, grads)
			}
		})
	}
	t.Run("transformer", func(t *testing.T) { transformer(t, open(t)) })
	t.Run("unsupported", func(t *testing.T) {
		if _, err := open(t).Kernel(unknown{}, nil, engine.Tensor{}); err == nil {
			t.Error("a kernel for an unknown op, want engine.ErrUnsupported")
		}
	})
}

type unknown struct{ ops.Copy }

// leaf is an input of a problem; dimensions may be the symbols of package engine.
type leaf struct {
	kind  ops.Kind
	shape []int
	f     []float32
	i     []int32
}

// problem is one op with its inputs.
type problem struct {
	spec   ops.Spec
	leaves []leaf
	at     engine.Extents
	ref    func(x []array) array

	name     string
	asked    int // questions to the oracle
	outShape []int
	random   []float32 // the cost is the sum of output * random
}

func actual(n int, e engine.Extents) int {
	for _, s := range []struct{ symbol, size int }{{engine.Tokens, e.Tokens}, {engine.Texts, e.Texts}, {engine.Picks, e.Picks}} {
		if n == s.symbol || n == s.symbol+1 {
			return s.size + n - s.symbol
		}
	}
	return n
}

// graph builds the op and the gradient of the sum of out * random. plain: with actual sizes in the place of symbols.
func (p *problem) graph(t *testing.T, host ops.Host, plain bool) (b *ops.Builder, in gorgonia.Nodes, out *gorgonia.Node, grads gorgonia.Nodes) {
	t.Helper()
	b = ops.New(host)
	size := func(s []int) []int {
		s = append([]int(nil), s...)
		for i := range s {
			if plain {
				s[i] = actual(s[i], p.at)
			}
		}
		return s
	}
	for i, l := range p.leaves {
		in = append(in, b.Input(l.kind, fmt.Sprintf("x%d", i), size(l.shape)...))
	}
	out = b.Apply(p.spec, in...)
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	d, ok := p.spec.(ops.Differentiable)
	if !ok {
		return b, in, out, nil
	}
	cost := out
	if !out.IsScalar() {
		p.outShape = append([]int(nil), out.Shape()...)
		cost = b.Apply(ops.Surrogate{}, out, b.Input(ops.Matrix, "random", size(out.Shape())...))
	}
	var wrt gorgonia.Nodes
	for i, w := range d.Wants() {
		if w {
			wrt = append(wrt, in[i])
		}
	}
	grads = b.Grad(cost, wrt...)
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	return b, in, out, grads
}

// run computes output and gradients by the engine, in a bucket that is slack larger than needed.
func (p *problem) run(t *testing.T, dev engine.Device, slack int) (out []float32, grads [][]float32) {
	t.Helper()
	b, _, o, g := p.graph(t, nil, false)
	stages := [][]engine.Output{{{Node: o}}, {}}
	for _, n := range g {
		stages[1] = append(stages[1], engine.Output{Node: n})
	}
	bucket := engine.Extents{Tokens: p.at.Tokens + slack, Texts: p.at.Texts + slack, Picks: p.at.Picks + slack}
	prog, err := engine.Compile(dev, b.Graph(), engine.Options{Largest: bucket, Stages: stages, Fuse: true})
	if err != nil {
		t.Fatal(err)
	}
	arena, err := dev.Alloc(prog.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	defer arena.Free()
	poison(t, dev, arena)
	f := prog.Frame()
	must(t, f.Bind(arena, p.at))
	for i, l := range p.leaves {
		must(t, f.Set(fmt.Sprintf("x%d", i), append(engine.Bytes(l.f), engine.Bytes(l.i)...)))
	}
	must(t, f.Run(0))
	out = read(t, dev, f.Output(0, 0))
	if p.random == nil {
		r := rand.New(rand.NewPCG(uint64(len(out)), 3))
		p.random = make([]float32, len(out))
		for i := range p.random {
			p.random[i] = float32(r.NormFloat64())
		}
	}
	must(t, f.Set("random", engine.Bytes(p.random)))
	must(t, f.Run(1))
	for i := range g {
		grads = append(grads, read(t, dev, f.Output(1, i)))
	}
	return out, grads
}

// compareMachine runs the graph, with plain sizes, by our VM and by gorgonia's own machine, op by op on the same kernels.
func (p *problem) compareMachine(t *testing.T, dev engine.Device, out []float32, grads [][]float32) {
	t.Helper()
	results := func(own bool) [][]float32 {
		b, in, o, g := p.graph(t, engine.Host{Device: dev}, true)
		for i, l := range p.leaves {
			let(t, in[i], l)
		}
		for _, n := range b.Graph().Inputs() {
			if n.Name() == "random" {
				let(t, n, leaf{shape: n.Shape(), f: p.random})
			}
		}
		return machine(t, dev, b.Graph(), own, append(gorgonia.Nodes{o}, g...))
	}
	mine, theirs := results(true), results(false)
	for i, want := range append([][]float32{out}, grads...) {
		sameBits(t, fmt.Sprintf("result %d of the VM", i), mine[i], want)
		sameBits(t, fmt.Sprintf("result %d of gorgonia's machine", i), theirs[i], want)
	}
}

// machine runs a graph by engine.VM or by gorgonia's TapeMachine and returns the values of nodes.
func machine(t *testing.T, dev engine.Device, g *gorgonia.ExprGraph, own bool, nodes gorgonia.Nodes) [][]float32 {
	t.Helper()
	values := make([]gorgonia.Value, len(nodes))
	var vm gorgonia.VM
	if own {
		v, err := engine.NewVM(dev, g, nodes...)
		must(t, err)
		vm = v
	} else {
		// The tape machine reuses registers of dead values; reading into a value keeps a copy.
		for i, n := range nodes {
			gorgonia.Read(n, &values[i])
		}
		vm = gorgonia.NewTapeMachine(g)
	}
	defer vm.Close()
	must(t, vm.RunAll())
	out := make([][]float32, len(nodes))
	for i, n := range nodes {
		v := values[i]
		if own {
			v = n.Value()
		}
		switch d := v.Data().(type) {
		case []float32:
			out[i] = append([]float32(nil), d...)
		case float32:
			out[i] = []float32{d}
		default:
			t.Fatalf("node %v holds %T", n, d)
		}
	}
	return out
}

func let(t *testing.T, n *gorgonia.Node, l leaf) {
	t.Helper()
	var backing any = l.f
	if l.kind == ops.Ints {
		backing = l.i
	}
	if n.IsScalar() {
		must(t, gorgonia.Let(n, l.f[0]))
		return
	}
	must(t, gorgonia.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(backing))))
}

func read(t *testing.T, dev engine.Device, x engine.Tensor) []float32 {
	t.Helper()
	out := make([]float32, x.Elements())
	must(t, dev.Read(engine.Bytes(out), x))
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Errorf("%s: value %d = %v, want %v, the same bits", what, i, got[i], want[i])
			return
		}
	}
}

// poison fills memory with NaN: a kernel that reads what nobody wrote shows.
func poison(t *testing.T, dev engine.Device, m engine.Memory) {
	t.Helper()
	bad := make([]float32, m.Bytes()/4)
	for i := range bad {
		bad[i] = float32(math.NaN())
	}
	must(t, dev.Write(engine.Tensor{Rank: 1, Shape: [2]int{len(bad)}, Mem: m}, engine.Bytes(bad)))
}
