package cpu_test

import (
	"errors"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// chain is x -> n norms -> their last, and the gradient by w.
func chain(n int) (b *ops.Builder, out, grad *gorgonia.Node) {
	b = ops.New(nil)
	x, w := b.Input(ops.Matrix, "x", engine.Tokens, 8), b.Input(ops.Vector, "w", 8)
	first := b.Apply(ops.RMSNorm{Eps: 1e-6}, x, w)
	out = first
	for range n - 1 {
		out = b.Apply(ops.RMSNorm{Eps: 1e-6, Frozen: true}, out, w)
	}
	cost := b.Apply(ops.Surrogate{}, out, b.Input(ops.Matrix, "dE", engine.Tokens, 8))
	return b, out, b.Grad(cost, w)[0]
}

func compile(t *testing.T, g *gorgonia.ExprGraph, tokens int, stages ...[]engine.Output) *engine.Program {
	t.Helper()
	dev, err := cpu.New(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	p, err := engine.Compile(dev, g, engine.Options{Largest: engine.Extents{Tokens: tokens}, Stages: stages, Fuse: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCompileLeavesDeadNodesOut(t *testing.T) {
	const n = 20
	b, out, grad := chain(n)
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	forward := compile(t, b.Graph(), 1000, []engine.Output{{Node: out}})
	if got := forward.Instructions(); got != n {
		t.Errorf("forward: %d instructions, want %d: the gradient is not wanted", got, n)
	}
	if got := strings.Join(forward.Inputs(), " "); got != "w x" {
		t.Errorf("forward: inputs %s, want w x", got)
	}
	// n norms, one scaled dE, n gradients of x of which the first is wanted for its second result only; the first
	// norm, whose input is there anyway, is computed again.
	both := compile(t, b.Graph(), 1000, []engine.Output{{Node: out}}, []engine.Output{{Node: grad}})
	if got, want := both.Instructions(), 2*n+2; got != want {
		t.Errorf("with gradient: %d instructions, want %d", got, want)
	}
}

func TestArenaHoldsWhatIsAlive(t *testing.T) {
	const tokens, row = 1000, 8 * 4
	b, out, grad := chain(20)
	matrix := int64(tokens * row)
	if got := compile(t, b.Graph(), tokens, []engine.Output{{Node: out}}).Bytes(); got > 3*matrix {
		t.Errorf("forward: arena of %d bytes, want at most input, value and value: %d", got, 3*matrix)
	}
	// The backward pass needs every norm's input, the gradient of each takes the place of the last.
	if got := compile(t, b.Graph(), tokens, []engine.Output{{Node: out}}, []engine.Output{{Node: grad}}).Bytes(); got > 25*matrix {
		t.Errorf("with gradient: arena of %d bytes, want at most %d", got, 25*matrix)
	}
}

type mystery struct{ ops.Copy }

func TestUnsupportedOpIsNamed(t *testing.T) {
	b := ops.New(nil)
	out := b.Apply(mystery{}, b.Input(ops.Matrix, "x", 2, 2))
	dev, err := cpu.New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	_, err = engine.Compile(dev, b.Graph(), engine.Options{Stages: [][]engine.Output{{{Node: out}}}})
	if !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "mystery") {
		t.Errorf("error = %v, want ErrUnsupported that names mystery", err)
	}
	// An op of gorgonia's own, other than the sum of gradients.
	g := gorgonia.NewGraph()
	x := gorgonia.NewMatrix(g, gorgonia.Float32, gorgonia.WithShape(2, 2), gorgonia.WithName("x"))
	y := gorgonia.Must(gorgonia.Tanh(x))
	if _, err := engine.NewVM(dev, g, y); !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "tanh") {
		t.Errorf("error = %v, want ErrUnsupported that names tanh", err)
	}
}

func TestFrameRefuses(t *testing.T) {
	b, out, _ := chain(2)
	p := compile(t, b.Graph(), 10, []engine.Output{{Node: out}})
	dev, err := cpu.New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	arena, err := dev.Alloc(p.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	f := p.Frame()
	if err := f.Bind(arena, engine.Extents{Tokens: 11}); err == nil || !strings.Contains(err.Error(), "beyond") {
		t.Errorf("Bind of 11 tokens = %v, want an error", err)
	}
	small, err := dev.Alloc(p.Bytes() - 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Bind(small, engine.Extents{Tokens: 3}); err == nil {
		t.Error("Bind to a small arena: no error")
	}
	if err := f.Bind(arena, engine.Extents{Tokens: 3}); err != nil {
		t.Fatal(err)
	}
	if err := f.Set("x", make([]byte, 4*8*2)); err == nil || !strings.Contains(err.Error(), `input "x" has 16 values`) {
		t.Errorf("Set of 2 rows = %v, want an error", err)
	}
}
