package engine

import (
	"fmt"
	"slices"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// Program is a compiled graph: instructions, and a place for every value. It is immutable; its state is in frames.
type Program struct {
	dev     Device
	largest Extents
	code    []*instr
	leaves  []*value // inputs and constants
	inputs  map[string]*value
	outputs [][]*value
	stages  []int // stage s is code[stages[s]:stages[s+1]]

	arena, scratch, scratchAt int64
}

// Bytes returns the memory that a frame takes.
func (p *Program) Bytes() int64 { return p.arena }

// Instructions returns the number of kernel calls of a whole run.
func (p *Program) Instructions() int { return len(p.code) }

// Largest returns the extents that the program was planned for.
func (p *Program) Largest() Extents { return p.largest }

// Frame is the state of a program in flight: the arena and what is bound to it. Between stages it keeps the
// activations, so a later stage may run much later, or never.
type Frame struct {
	prog    *Program
	arena   Memory
	extents Extents
	calls   []Call
}

// Frame returns a new frame, to be bound.
func (p *Program) Frame() *Frame {
	f := &Frame{prog: p, calls: make([]Call, len(p.code))}
	for n, i := range p.code {
		f.calls[n].In = make([]Tensor, len(i.in))
	}
	return f
}

// Arena returns the memory that the frame is bound to.
func (f *Frame) Arena() Memory { return f.arena }

// Bind gives the frame an arena of at least p.Bytes() and the extents of the next run, no larger than those the
// program was planned for. Inputs must be set again.
func (f *Frame) Bind(arena Memory, e Extents) error {
	if !e.within(f.prog.largest) {
		return fmt.Errorf("engine: extents %+v are beyond the program's %+v", e, f.prog.largest)
	}
	if arena.Bytes() < f.prog.arena {
		return fmt.Errorf("engine: an arena of %d bytes for a program of %d", arena.Bytes(), f.prog.arena)
	}
	f.arena, f.extents = arena, e
	for _, v := range f.prog.leaves {
		if v.constant != nil {
			if err := f.prog.dev.Write(f.tensor(v), Bytes(v.constant)); err != nil {
				return err
			}
		}
	}
	for n, i := range f.prog.code {
		call := &f.calls[n]
		for j, v := range i.in {
			call.In[j] = f.tensor(v)
		}
		call.Out = f.tensor(i.out)
		if i.base != nil {
			call.Base = f.tensor(i.base)
		}
		if i.saved != nil {
			call.Saved = f.tensor(i.saved)
		}
		if i.read != nil {
			call.Read = f.tensor(i.read)
		}
		call.Scratch = Tensor{Rank: 1, Shape: [2]int{int(f.prog.scratch / 4)}, Mem: f.arena, Offset: f.prog.scratchAt}
	}
	return nil
}

// tensor places a value in the frame. A value whose place is nowhere (only its shape is used) has no memory.
func (f *Frame) tensor(v *value) Tensor {
	if v.into != nil {
		return *v.into
	}
	t := v.tensor(f.extents)
	if r := v.root(); r.block != nil {
		t.Mem, t.Offset = f.arena, r.block.offset+r.delta+v.at
	}
	return t
}

// Set writes an input. A leaf that no live node reads is not an input of the program: setting it does nothing.
func (f *Frame) Set(name string, src []byte) error {
	v, ok := f.prog.inputs[name]
	if !ok {
		return nil
	}
	t := f.tensor(v)
	if int64(len(src)) != t.Bytes() {
		return fmt.Errorf("engine: input %q has %d values, extents %+v need %d", name, len(src)/4, f.extents, t.Elements())
	}
	if len(src) == 0 {
		return nil
	}
	return f.prog.dev.Write(t, src)
}

// Run executes a stage. The stages before it must have run since Bind.
func (f *Frame) Run(stage int) error {
	p := f.prog
	for n := p.stages[stage]; n < p.stages[stage+1]; n++ {
		if err := p.code[n].kernel.Run(&f.calls[n]); err != nil {
			return fmt.Errorf("engine: %s: %w", ops.Name(p.code[n].spec), err)
		}
	}
	return nil
}

// Output returns where output i of a stage is.
func (f *Frame) Output(stage, i int) Tensor { return f.tensor(f.prog.outputs[stage][i]) }

// Inputs lists the program's inputs.
func (p *Program) Inputs() []string {
	names := make([]string, 0, len(p.inputs))
	for name := range p.inputs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
