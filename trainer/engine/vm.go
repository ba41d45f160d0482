package engine

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// VM runs a graph of plain sizes as gorgonia's machines do: leaves hold their values, and after RunAll the outputs
// hold theirs. Training uses Program; the VM is for graphs by hand, and for comparing with gorgonia's own machine.
type VM struct {
	dev     Device
	leaves  gorgonia.Nodes
	outputs gorgonia.Nodes
	frame   *Frame
	arena   Memory
}

var _ gorgonia.VM = (*VM)(nil)

// NewVM compiles the graph of outputs. Sums stay ops of their own, so the bits are those of the ops one by one.
func NewVM(dev Device, g *gorgonia.ExprGraph, outputs ...*gorgonia.Node) (*VM, error) {
	var list []Output
	for _, n := range outputs {
		list = append(list, Output{Node: n})
	}
	p, err := Compile(dev, g, Options{Stages: [][]Output{list}})
	if err != nil {
		return nil, err
	}
	arena, err := dev.Alloc(p.Bytes())
	if err != nil {
		return nil, err
	}
	vm := &VM{dev: dev, outputs: outputs, frame: p.Frame(), arena: arena}
	for _, n := range g.AllNodes() {
		if n.Op() == nil {
			vm.leaves = append(vm.leaves, n)
		}
	}
	return vm, nil
}

// RunAll implements gorgonia.VM. Unlike gorgonia's, it needs no Reset between runs.
func (vm *VM) RunAll() error {
	if err := vm.frame.Bind(vm.arena, Extents{}); err != nil {
		return err
	}
	for _, n := range vm.leaves {
		if _, used := vm.frame.prog.inputs[n.Name()]; !used {
			continue
		}
		b, err := bytesOf(n.Value())
		if err != nil {
			return fmt.Errorf("engine: leaf %s: %w", n.Name(), err)
		}
		if err := vm.frame.Set(n.Name(), b); err != nil {
			return err
		}
	}
	if err := vm.frame.Run(0); err != nil {
		return err
	}
	for i, n := range vm.outputs {
		values, err := Values(vm.dev, vm.frame.Output(0, i))
		if err != nil {
			return err
		}
		values = append([]float32(nil), values...)
		var v gorgonia.Value = tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(values))
		if n.IsScalar() {
			v = gorgonia.NewF32(values[0])
		}
		if err := gorgonia.UnsafeLet(n, v); err != nil {
			return fmt.Errorf("engine: output %v: %w", n, err)
		}
	}
	return nil
}

// Reset implements gorgonia.VM: there is nothing to reset.
func (vm *VM) Reset() {}

// Close implements gorgonia.VM.
func (vm *VM) Close() error {
	vm.arena.Free()
	return nil
}

func bytesOf(v gorgonia.Value) ([]byte, error) {
	if v == nil {
		return nil, fmt.Errorf("has no value")
	}
	switch d := v.Data().(type) {
	case []float32:
		return Bytes(d), nil
	case []int32:
		return Bytes(d), nil
	case float32:
		return Bytes([]float32{d}), nil
	case int32:
		return Bytes([]int32{d}), nil
	default:
		return nil, fmt.Errorf("holds %T, only float32 and int32 are supported", d)
	}
}

// Host lets gorgonia's own machines run a graph of package ops by a device's kernels, op by op.
type Host struct{ Device Device }

var _ ops.Host = Host{}

// Compute implements ops.Host. A second result is computed again where it is read.
func (h Host) Compute(spec ops.Spec, out gorgonia.Value, in ...gorgonia.Value) error {
	b := make([]Tensor, len(in))
	for i, v := range in {
		t, err := h.upload(v)
		if err != nil {
			return fmt.Errorf("engine: %s: input %d: %w", ops.Name(spec), i, err)
		}
		defer t.Mem.Free()
		b[i] = t
	}
	dst, err := h.upload(out)
	if err != nil {
		return err
	}
	defer dst.Mem.Free()
	if err := h.run(spec, dst, b); err != nil {
		return fmt.Errorf("engine: %s: %w", ops.Name(spec), err)
	}
	values, err := Values(h.Device, dst)
	if err != nil {
		return err
	}
	if s, ok := out.(*gorgonia.F32); ok {
		*s = gorgonia.F32(values[0])
		return nil
	}
	copy(out.Data().([]float32), values)
	return nil
}

func (h Host) run(spec ops.Spec, out Tensor, in []Tensor) error {
	if second, ok := spec.(ops.Second); ok {
		source, offset := second.Source()
		saved, err := h.saved(source, in[:len(in)-1], in[len(in)-1])
		if err != nil {
			return err
		}
		defer saved.Mem.Free()
		part := out
		part.Mem, part.Offset = saved.Mem, saved.Offset+4*int64(offset)
		return h.call(ops.Copy{}, Call{In: []Tensor{part}, Out: out})
	}
	call := Call{In: in, Out: out}
	if r, ok := spec.(ops.Reader); ok {
		kinds, _ := r.Reads().Signature()
		var err error
		if call.Read, err = h.saved(r.Reads(), in[:len(kinds)], in[len(kinds)]); err != nil {
			return err
		}
		defer call.Read.Mem.Free()
	}
	return h.call(spec, call)
}

// saved runs the saver of in, whose output has the shape of like, and returns its second result.
func (h Host) saved(spec ops.Spec, in []Tensor, like Tensor) (Tensor, error) {
	out := like
	var err error
	if out.Mem, err = h.Device.Alloc(out.Bytes()); err != nil {
		return Tensor{}, err
	}
	out.Offset = 0
	defer out.Mem.Free()
	shapes := make([]tensor.Shape, len(in))
	for i, t := range in {
		shapes[i] = tensor.Shape(t.Shape[:t.Rank])
	}
	saved := Tensor{Rank: 1, Shape: [2]int{spec.(ops.Saver).Saved(shapes)}}
	if saved.Mem, err = h.Device.Alloc(saved.Bytes()); err != nil {
		return Tensor{}, err
	}
	call := Call{In: in, Out: out, Saved: saved}
	if r, ok := spec.(ops.Reader); ok {
		kinds, _ := r.Reads().Signature()
		if call.Read, err = h.saved(r.Reads(), in[:len(kinds)], in[len(kinds)]); err != nil {
			return Tensor{}, err
		}
		defer call.Read.Mem.Free()
	}
	return saved, h.call(spec, call)
}

func (h Host) call(spec ops.Spec, c Call) error {
	k, err := h.Device.Kernel(spec, c.In, c.Out)
	if err != nil {
		return err
	}
	if s, ok := spec.(ops.Saver); ok && c.Saved.Mem == nil {
		shapes := make([]tensor.Shape, len(c.In))
		for i, t := range c.In {
			shapes[i] = tensor.Shape(t.Shape[:t.Rank])
		}
		c.Saved = Tensor{Rank: 1, Shape: [2]int{s.Saved(shapes)}}
		if c.Saved.Mem, err = h.Device.Alloc(c.Saved.Bytes()); err != nil {
			return err
		}
		defer c.Saved.Mem.Free()
	}
	if k.Scratch != nil {
		c.Scratch = Tensor{Rank: 1, Shape: [2]int{int(roundUp(k.Scratch(&c)) / 4)}}
		if c.Scratch.Mem, err = h.Device.Alloc(c.Scratch.Bytes()); err != nil {
			return err
		}
		defer c.Scratch.Mem.Free()
	}
	return k.Run(&c)
}

func (h Host) upload(v gorgonia.Value) (Tensor, error) {
	b, err := bytesOf(v)
	if err != nil {
		return Tensor{}, err
	}
	t := Tensor{Rank: len(v.Shape())}
	if v.Dtype() == tensor.Int32 {
		t.Type = Int32
	}
	copy(t.Shape[:], v.Shape())
	if t.Mem, err = h.Device.Alloc(int64(len(b))); err != nil {
		return Tensor{}, err
	}
	if len(b) == 0 {
		return t, nil
	}
	return t, h.Device.Write(t, b)
}
