package ops

import (
	"strings"
	"testing"

	"gorgonia.org/tensor"
)

// TestAttributesAreHashed makes pairs of specs that differ in one attribute: gorgonia must not merge them.
func TestAttributesAreHashed(t *testing.T) {
	for _, pair := range [][2]Spec{
		{RMSNorm{Eps: 1e-5}, RMSNorm{Eps: 1e-6}},
		{RMSNorm{}, RMSNormGradX{}},
		{Attention{Heads: 2, KV: 1, HeadDim: 4}, Attention{Heads: 2, KV: 1, HeadDim: 4, Mask: Mask{Causal: true}}},
		{Rotary{HeadDim: 4, Frequencies: []float32{1, 2}}, Rotary{HeadDim: 4, Frequencies: []float32{1, 3}}},
		{Rotary{HeadDim: 4, Frequencies: []float32{1, 2}}, Rotary{HeadDim: 4, Frequencies: []float32{1, 2}, Inverse: true}},
		{Down{Dropout: Dropout{Rate: 0.1, Site: 1}}, Down{Dropout: Dropout{Rate: 0.1, Site: 2}}},
		{Up{Parts: Parts{{0, 1, 2, 1}, {2, 3, 2, 1}}}, Up{Parts: Parts{{0, 1, 2, 1}, {2, 4, 2, 1}}}},
		{Up{Parts: Parts{{0, 1, 2, 1}, {2, 3, 2, 1}}}, Up{Parts: Parts{{0, 1, 2, 1}, {2, 3, 2, 3}}}},
		{Pool{Mean}, Pool{LastToken}},
		{InfoNCE{Temperature: 0.1}, InfoNCE{Temperature: 0.1, Masked: true}},
	} {
		a, b := &Op{Spec: pair[0]}, &Op{Spec: pair[1]}
		if a.Hashcode() == b.Hashcode() {
			t.Errorf("%v and %v have one hash", a, b)
		}
		if a.Hashcode() == (&Op{Spec: pair[0], salt: 1}).Hashcode() {
			t.Errorf("a salt does not change the hash of %v", a)
		}
	}
}

func TestSameNodeIsMerged(t *testing.T) {
	b := New(nil)
	x, y := b.Input(Matrix, "x", 3, 4), b.Input(Matrix, "y", 3, 4)
	if first, second := b.Apply(Add{}, x, y), b.Apply(Add{}, x, y); first != second {
		t.Error("the same sum is two nodes")
	}
	if b.Apply(Add{}, x, y) == b.Apply(Add{}, y, x) {
		t.Error("x + y and y + x are one node")
	}
	if b.Err() != nil {
		t.Error(b.Err())
	}
}

func TestBuilderRefuses(t *testing.T) {
	for _, c := range []struct {
		name, want string
		build      func(b *Builder)
	}{
		{"one name twice", `two inputs are named "x"`, func(b *Builder) { b.Input(Matrix, "x", 1, 1); b.Input(Matrix, "x", 1, 1) }},
		{"widths", "x's width is 3, want 4", func(b *Builder) {
			b.Apply(Linear{}, b.Input(Matrix, "x", 2, 3), b.Input(Matrix, "w", 5, 4))
		}},
		{"a matrix for a vector", "input 1 has rank 2, want 1", func(b *Builder) {
			b.Apply(RMSNorm{}, b.Input(Matrix, "x", 2, 3), b.Input(Matrix, "w", 3, 3))
		}},
		{"more queries than documents", "queries", func(b *Builder) {
			b.Apply(InfoNCE{}, b.Input(Matrix, "e", 5, 3), b.Input(Ints, "d", 2))
		}},
		{"heads", "qkv's width is 9, want 8", func(b *Builder) {
			b.Apply(Attention{Heads: 2, KV: 1, HeadDim: 2}, b.Input(Matrix, "x", 5, 9), b.Input(Ints, "cu", 2))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := New(nil)
			c.build(b)
			if b.Err() == nil || !strings.Contains(b.Err().Error(), c.want) {
				t.Errorf("error = %v, want one with %q", b.Err(), c.want)
			}
			if n := b.Apply(Add{}, nil, nil); n != nil {
				t.Error("a node after an error")
			}
		})
	}
}

// TestTypesAreFresh calls Type twice: gorgonia gives a type back to a pool after each use.
func TestTypesAreFresh(t *testing.T) {
	o := &Op{Spec: Linear{}}
	if first, second := o.Type(), o.Type(); first == second {
		t.Error("Type returned one FnType twice")
	}
	if _, err := o.InferShape(tensor.Shape{2, 3}, tensor.Shape{4, 3}); err != nil {
		t.Error(err)
	}
}
