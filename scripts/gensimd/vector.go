package main

// vectors writes the elementwise kernels and the reductions over one row.
func vectors(a *asm) {
	type step = func(number, shift int, tail bool)

	for _, k := range []struct {
		name string
		body func()
	}{
		{"exp", func() { a.exp(0, 1, 2, 3) }},
		{"sigmoid", func() { a.sigmoid(0, 1, 2, 3) }},
		{"silu", func() {
			a.op("VMOVAPS", 0, 4)
			a.sigmoid(0, 1, 2, 3)
			a.op("VMULPS", 4, 0, 0)
		}},
	} {
		f := a.begin(k.name, "dst, x *float32; n int", "")
		a.pointers(f, "dst", "x")
		a.op("MOVQ", f["n"], "CX")
		a.loop(1, func(_, _ int, tail bool) {
			a.load(at("SI", 0), 0, tail)
			k.body()
			a.store(0, at("DI", 0), tail)
		})
		a.end()
	}

	f := a.begin("add", "dst, a, b *float32; n int", "")
	a.pointers(f, "dst", "a", "b")
	a.op("MOVQ", f["n"], "CX")
	a.loop(4, func(i, shift int, tail bool) {
		a.load(at("SI", shift), 2*i, tail)
		a.load(at("R8", shift), 2*i+1, tail)
		a.op("VADDPS", 2*i+1, 2*i, 2*i)
		a.store(2*i, at("DI", shift), tail)
	})
	a.end()

	f = a.begin("axpy", "y, x *float32; n int; alpha float32", "")
	a.pointers(f, "y", "x")
	a.op("MOVQ", f["n"], "CX")
	a.op("VBROADCASTSS", f["alpha"], 14)
	a.loop(4, func(i, shift int, tail bool) {
		a.load(at("SI", shift), 2*i, tail)
		a.load(at("DI", shift), 2*i+1, tail)
		a.op("VFMADD231PS", 14, 2*i, 2*i+1)
		a.store(2*i+1, at("DI", shift), tail)
	})
	a.end()

	f = a.begin("scale", "dst, x *float32; n int; alpha float32", "")
	a.pointers(f, "dst", "x")
	a.op("MOVQ", f["n"], "CX")
	a.op("VBROADCASTSS", f["alpha"], 14)
	a.loop(4, func(i, shift int, tail bool) {
		a.load(at("SI", shift), i, tail)
		a.op("VMULPS", 14, i, i)
		a.store(i, at("DI", shift), tail)
	})
	a.end()

	// Reductions keep four sums in the main loop and fold them in one order.
	reduction := func(kind string, zero func(r int), body step) {
		for i := range 4 {
			zero(10 + i)
		}
		a.loop(4, body)
		a.op(kind, 11, 10, 10)
		a.op(kind, 13, 12, 12)
		a.op(kind, 12, 10, 10)
		a.reduce(kind, 10, 0)
	}
	f = a.begin("dot", "a, b *float32; n int", "float32")
	a.pointers(f, "a", "b")
	a.op("MOVQ", f["n"], "CX")
	reduction("VADDPS", a.zero, func(i, shift int, tail bool) {
		a.load(at("DI", shift), i, tail)
		a.load(at("SI", shift), 4+i, tail)
		a.op("VFMADD231PS", 4+i, i, 10+i)
	})
	a.op("VMOVSS", quarter(10), f["ret"])
	a.end()

	f = a.begin("dot3", "a, b, c *float32; n int", "float32")
	a.pointers(f, "a", "b", "c")
	a.op("MOVQ", f["n"], "CX")
	reduction("VADDPS", a.zero, func(i, shift int, tail bool) {
		a.load(at("DI", shift), i, tail)
		a.load(at("SI", shift), 4+i, tail)
		a.op("VMULPS", 4+i, i, i)
		a.load(at("R8", shift), 4+i, tail)
		a.op("VFMADD231PS", 4+i, i, 10+i)
	})
	a.op("VMOVSS", quarter(10), f["ret"])
	a.end()

	f = a.begin("max", "x *float32; n int", "float32")
	a.pointers(f, "x")
	a.op("MOVQ", f["n"], "CX")
	lowest := a.word("minusInf", 0xff800000)
	reduction("VMAXPS", func(r int) { a.op("VMOVUPS", lowest, r) }, func(i, shift int, tail bool) {
		if tail && a.wide {
			a.op("VMOVUPS", lowest, i)
			a.op("VMOVUPS", at("DI", shift), "K1", i)
		} else if tail {
			a.load(at("DI", shift), i, true)
			a.op("VMOVUPS", lowest, 5)
			a.op("VBLENDVPS", tailRegister, i, 5, i)
		} else {
			a.load(at("DI", shift), i, false)
		}
		a.op("VMAXPS", 10+i, i, 10+i)
	})
	a.op("VMOVSS", quarter(10), f["ret"])
	a.end()

	f = a.begin("expSum", "dst, x *float32; n int; scale, shift float32", "float32")
	a.pointers(f, "dst", "x")
	a.op("MOVQ", f["n"], "CX")
	a.op("VBROADCASTSS", f["scale"], 13)
	a.op("VBROADCASTSS", f["shift"], 14)
	a.zero(10)
	a.loop(1, func(_, _ int, tail bool) {
		a.load(at("SI", 0), 0, tail)
		a.op("VFMSUB213PS", 14, 13, 0)
		a.exp(0, 1, 2, 3)
		a.keepTail(0, tail)
		a.store(0, at("DI", 0), tail)
		a.op("VADDPS", 0, 10, 10)
	})
	a.reduce("VADDPS", 10, 0)
	a.op("VMOVSS", quarter(10), f["ret"])
	a.end()

	norms(a)
	gates(a)
}

func norms(a *asm) {
	f := a.begin("norm", "y, x, w *float32; n int; rstd float32", "")
	a.pointers(f, "y", "x", "w")
	a.op("MOVQ", f["n"], "CX")
	a.op("VBROADCASTSS", f["rstd"], 14)
	a.loop(4, func(i, shift int, tail bool) {
		a.load(at("SI", shift), 2*i, tail)
		a.load(at("R8", shift), 2*i+1, tail)
		a.op("VMULPS", 14, 2*i, 2*i)
		a.op("VMULPS", 2*i+1, 2*i, 2*i)
		a.store(2*i, at("DI", shift), tail)
	})
	a.end()

	for _, residual := range []bool{false, true} {
		name, names := "normGrad", "dx, dy, w, x *float32; n int; r, c float32"
		if residual {
			name, names = "normGradAdd", "dx, dy, w, x, residual *float32; n int; r, c float32"
		}
		f := a.begin(name, names, "")
		a.pointers(f, "dx", "dy", "w", "x")
		if residual {
			a.op("MOVQ", f["residual"], "R10")
		}
		a.op("MOVQ", f["n"], "CX")
		a.op("VBROADCASTSS", f["r"], 14)
		a.op("VBROADCASTSS", f["c"], 13)
		a.loop(2, func(i, shift int, tail bool) {
			a.load(at("SI", shift), 4*i, tail)
			a.load(at("R8", shift), 4*i+1, tail)
			a.load(at("R9", shift), 4*i+2, tail)
			a.op("VMULPS", 4*i+1, 4*i, 4*i)
			a.op("VMULPS", 14, 4*i, 4*i)
			a.op("VFNMADD231PS", 13, 4*i+2, 4*i)
			if residual {
				a.load(at("R10", shift), 4*i+3, tail)
				a.op("VADDPS", 4*i+3, 4*i, 4*i)
			}
			a.store(4*i, at("DI", shift), tail)
		})
		a.end()
	}

	f = a.begin("mulAdd", "dst, a, b *float32; n int; c float32", "")
	a.pointers(f, "dst", "a", "b")
	a.op("MOVQ", f["n"], "CX")
	a.op("VBROADCASTSS", f["c"], 14)
	a.loop(4, func(i, shift int, tail bool) {
		a.load(at("R8", shift), 3*i, tail)
		a.load(at("SI", shift), 3*i+1, tail)
		a.load(at("DI", shift), 3*i+2, tail)
		a.op("VMULPS", 14, 3*i, 3*i)
		a.op("VFMADD231PS", 3*i, 3*i+1, 3*i+2)
		a.store(3*i+2, at("DI", shift), tail)
	})
	a.end()
}

// gates writes SwiGLU, its gradient, rotation and dropout.
func gates(a *asm) {
	f := a.begin("swiglu", "y, gate, up *float32; n int", "")
	a.pointers(f, "y", "gate", "up")
	a.op("MOVQ", f["n"], "CX")
	a.loop(1, func(_, _ int, tail bool) {
		a.load(at("SI", 0), 0, tail)
		a.op("VMOVAPS", 0, 4)
		a.load(at("R8", 0), 5, tail)
		a.op("VMULPS", 5, 4, 4)
		a.sigmoid(0, 1, 2, 3)
		a.op("VMULPS", 4, 0, 0)
		a.store(0, at("DI", 0), tail)
	})
	a.end()

	f = a.begin("swigluGrad", "dgate, dup, dy, gate, up *float32; n int", "")
	a.pointers(f, "dgate", "dup", "dy", "gate", "up")
	a.op("MOVQ", f["n"], "CX")
	a.loop(1, func(_, _ int, tail bool) {
		a.load(at("R9", 0), 0, tail)
		a.op("VMOVAPS", 0, 4)
		a.sigmoid(0, 1, 2, 3) // s
		a.load(at("R8", 0), 5, tail)
		a.load(at("R10", 0), 6, tail)
		a.op("VMULPS", 0, 4, 4) // g s
		a.op("VMULPS", 5, 6, 6) // dy u
		a.op("VMULPS", 5, 4, 5)
		a.store(5, at("SI", 0), tail) // du = dy g s
		a.op("VMOVUPS", a.word("expOne", bits(1)), 7)
		a.op("VSUBPS", 0, 7, 7) // 1 - s
		a.op("VFMADD231PS", 4, 7, 0)
		a.op("VMULPS", 6, 0, 0)
		a.store(0, at("DI", 0), tail) // dg = dy u (s + g s (1 - s))
	})
	a.end()

	f = a.begin("rotate", "y, x, cos, sin *float32; heads, half int; sign float32", "")
	a.pointers(f, "y", "x", "cos", "sin")
	a.op("MOVQ", f["heads"], "BX")
	a.op("MOVQ", f["half"], "R13")
	a.op("VBROADCASTSS", f["sign"], 14)
	head := a.fresh("head")
	a.label(head)
	a.op("LEAQ", "(DI)(R13*4)", "R10")
	a.op("LEAQ", "(SI)(R13*4)", "R11")
	a.op("MOVQ", "R13", "CX")
	a.loop(1, func(_, _ int, tail bool) {
		a.load(at("SI", 0), 0, tail)
		a.load(at("R11", 0), 1, tail)
		a.load(at("R8", 0), 2, tail)
		a.load(at("R9", 0), 3, tail)
		a.op("VMULPS", 14, 3, 3)
		a.op("VMULPS", 0, 2, 4)
		a.op("VMULPS", 1, 2, 5)
		a.op("VFNMADD231PS", 1, 3, 4)
		a.op("VFMADD231PS", 0, 3, 5)
		a.store(4, at("DI", 0), tail)
		a.store(5, at("R10", 0), tail)
	})
	a.op("LEAQ", "(DI)(R13*8)", "DI")
	a.op("LEAQ", "(SI)(R13*8)", "SI")
	a.op("DECQ", "BX")
	a.op("JNE", head)
	a.end()

	f = a.begin("drop", "y, x *float32; words *uint32; n int; threshold uint32; scale float32", "")
	a.pointers(f, "y", "x", "words")
	a.op("MOVQ", f["n"], "CX")
	a.op("MOVL", f["threshold"], "AX")
	a.op("VMOVD", "AX", quarter(13))
	a.op("VPBROADCASTD", quarter(13), 13)
	a.op("VBROADCASTSS", f["scale"], 14)
	a.loop(1, func(_, _ int, tail bool) {
		a.load(at("R8", 0), 0, tail)
		a.load(at("SI", 0), 1, tail)
		if a.wide {
			a.op("VPCMPUD", "$5", 13, 0, "K2")
			a.op("VMULPS.Z", 14, 1, "K2", 1)
		} else {
			a.op("VPMAXUD", 13, 0, 2)
			a.op("VPCMPEQD", 2, 0, 2)
			a.op("VMULPS", 14, 1, 1)
			a.op("VANDPS", 2, 1, 1)
		}
		a.store(1, at("DI", 0), tail)
	})
	a.end()
}
