package main

import "fmt"

// exact writes the kernels whose results are the same bits on every level: no fused operation, and the order of
// trainer/engine/cpu/simd/portable.go.
func exact(a *asm) {
	f := a.begin("adamw", "w, m, v, grad *float32; n int; k *AdamWScalars", "")
	a.op("MOVQ", f["k"], "BX")
	const scalars = 6 // registers 6 .. 14
	clip, keep, beta1, rest1, beta2, rest2, size, root, eps := scalars, scalars+1, scalars+2, scalars+3, scalars+4, scalars+5, scalars+6, scalars+7, scalars+8
	for i := range 9 {
		a.op("VBROADCASTSS", fmt.Sprintf("%d(BX)", 4*i), scalars+i)
	}
	a.pointers(f, "w", "m", "v", "grad")
	a.op("MOVQ", f["n"], "CX")
	a.loop(1, func(_, _ int, tail bool) {
		a.load(at("R9", 0), 0, tail)
		a.op("VMULPS", clip, 0, 0)
		a.load(at("SI", 0), 1, tail)
		a.op("VMULPS", beta1, 1, 1)
		a.op("VMULPS", rest1, 0, 2)
		a.op("VADDPS", 2, 1, 1)
		a.store(1, at("SI", 0), tail)
		a.load(at("R8", 0), 2, tail)
		a.op("VMULPS", beta2, 2, 2)
		a.op("VMULPS", rest2, 0, 3)
		a.op("VMULPS", 0, 3, 3)
		a.op("VADDPS", 3, 2, 2)
		a.store(2, at("R8", 0), tail)
		a.op("VSQRTPS", 2, 2)
		a.op("VDIVPS", root, 2, 2)
		a.op("VADDPS", eps, 2, 2)
		a.op("VMULPS", size, 1, 1)
		a.op("VDIVPS", 2, 1, 1)
		a.load(at("DI", 0), 0, tail)
		a.op("VMULPS", keep, 0, 0)
		a.op("VSUBPS", 1, 0, 0)
		a.store(0, at("DI", 0), tail)
	})
	a.end()

	and, or := "VPAND", "VPMAXUD"
	if a.wide {
		and = "VPANDD"
	}
	abs := a.word("absolute", 0x7fffffff)
	f = a.begin("maxBits", "x *float32; n int", "uint32")
	a.pointers(f, "x")
	a.op("MOVQ", f["n"], "CX")
	for i := range 4 {
		a.zero(10 + i)
	}
	a.loop(4, func(i, shift int, tail bool) {
		a.load(at("DI", shift), i, tail)
		a.op(and, abs, i, i)
		a.op(or, i, 10+i, 10+i)
	})
	a.op(or, 11, 10, 10)
	a.op(or, 13, 12, 12)
	a.op(or, 12, 10, 10)
	a.reduce(or, 10, 0)
	a.op("VMOVD", quarter(10), "AX")
	a.op("MOVL", "AX", f["ret"])
	a.end()

	// half the floats of a vector at a time, n a multiple of lanes/2
	a.doubles("quantise", "sum *int64; grad *float32; n int; scale float64", "uint32", func(f map[string]string, loop func(func())) {
		a.pointers(f, "sum", "grad")
		a.op("VBROADCASTSD", f["scale"], 8)
		a.op("VMOVUPS", a.word64("magicFloat", 0x4338000000000000), 9)
		a.zero(10)
		loop(func() {
			a.op("VCVTPS2PD", a.halfAt("SI"), 0)
			a.op("VMULPD", 8, 0, 0)
			a.op("VADDPD", 9, 0, 0)
			a.op("VPSUBQ", 9, 0, 0)
			a.op("VPADDQ", "(DI)(AX*2)", 0, 0)
			a.store(0, "(DI)(AX*2)", false)
			if a.wide {
				a.op("VMOVUPS", a.halfAt("SI"), half(1))
				a.op("VPAND", "absolute<>(SB)", half(1), half(1))
				a.op("VPMAXUD", half(1), half(10), half(10))
			} else {
				a.op("VMOVUPS", a.halfAt("SI"), quarter(1))
				a.op("VPAND", "absolute<>(SB)", quarter(1), quarter(1))
				a.op("VPMAXUD", quarter(1), quarter(10), quarter(10))
			}
		})
		a.reduce("VPMAXUD", 10, 0)
		a.op("VMOVD", quarter(10), "AX")
		a.op("MOVL", "AX", f["ret"])
	})

	if a.wide {
		a.doubles("dequantise", "dst *float32; sum *int64; n int; scale float64", "", func(f map[string]string, loop func(func())) {
			a.pointers(f, "dst", "sum")
			a.op("VBROADCASTSD", f["scale"], 8)
			loop(func() {
				a.op("VCVTQQ2PD", "(SI)(AX*2)", 0)
				a.op("VMULPD", 8, 0, 0)
				a.op("VCVTPD2PS", 0, half(0))
				a.op("VMOVUPS", half(0), a.halfAt("DI"))
			})
		})
	}

	// Lane i mod 16: two vectors of doubles on AVX-512, four on AVX2; n a multiple of 16.
	f = a.begin("squares", "lanes *float64; x *float32; n int", "")
	a.pointers(f, "lanes", "x")
	a.op("MOVQ", f["n"], "CX")
	parts := 64 / a.bytes() * 2
	for i := range parts {
		a.op("VMOVUPS", fmt.Sprintf("%d(DI)", i*a.bytes()), 8+i)
	}
	next, done := a.fresh("next"), a.fresh("done")
	a.op("TESTQ", "CX", "CX")
	a.op("JEQ", done)
	a.label(next)
	for i := range parts {
		a.op("VCVTPS2PD", fmt.Sprintf("%d(SI)", i*a.bytes()/2), i)
		a.op("VMULPD", i, i, i)
		a.op("VADDPD", i, 8+i, 8+i)
	}
	a.op("ADDQ", "$64", "SI")
	a.op("SUBQ", "$16", "CX")
	a.op("JNE", next)
	a.label(done)
	for i := range parts {
		a.op("VMOVUPS", 8+i, fmt.Sprintf("%d(DI)", i*a.bytes()))
	}
	a.end()
}

// halfAt is the operand of half a vector of floats at the loop's offset.
func (a *asm) halfAt(base string) string { return at(base, 0) }

// doubles writes a loop over floats widened to doubles: lanes/2 floats an iteration, n a multiple of that.
func (a *asm) doubles(name, text, result string, body func(f map[string]string, loop func(func()))) {
	f := a.begin(name, text, result)
	a.op("MOVQ", f["n"], "CX")
	body(f, func(step func()) {
		next, done := a.fresh("next"), a.fresh("done")
		a.op("XORQ", "AX", "AX")
		a.op("TESTQ", "CX", "CX")
		a.op("JEQ", done)
		a.label(next)
		step()
		a.op("ADDQ", fmt.Sprintf("$%d", a.bytes()/2), "AX")
		a.op("SUBQ", fmt.Sprintf("$%d", a.lanes()/2), "CX")
		a.op("JNE", next)
		a.label(done)
	})
	a.end()
}
