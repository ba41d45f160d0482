package main

// packing writes the kernels of lossless packing (trainer/fixed): integers of 33 to 39 bits, eight at a time, as their low
// 32 bits and, apart, the h bits above them. AVX-512 has what it takes: narrowing stores, and shifts that keep the sign;
// PEXT and PDEP gather and scatter the high bits of eight bytes. The other levels run Go.
func packing(a *asm) {
	if !a.wide {
		return
	}
	const zigzagOr = "$0xf6" // a | (b ^ c)

	f := a.begin("zigzagBits", "v *int64; n int", "uint64") // n a multiple of 8
	a.pointers(f, "v")
	a.op("MOVQ", f["n"], "CX")
	a.zero(10)
	a.eights(func() {
		a.op("VMOVDQU64", "(DI)", 0)
		a.op("VPSLLQ", "$1", 0, 1)
		a.op("VPSRAQ", "$63", 0, 2)
		a.op("VPTERNLOGQ", zigzagOr, 1, 2, 10)
		a.op("ADDQ", "$64", "DI")
	})
	a.orQuads(10)
	a.op("MOVQ", "AX", f["ret"])
	a.end()

	f = a.begin("packHigh", "low *byte; high *byte; v *int64; n int; h int; mask uint64", "")
	a.pointers(f, "low", "high", "v")
	a.op("MOVQ", f["n"], "CX")
	a.op("MOVQ", f["h"], "R10")
	a.op("MOVQ", f["mask"], "BX")
	a.eights(func() {
		a.op("VMOVDQU64", "(R8)", 0)
		a.op("VPMOVQD", 0, "(DI)")
		a.op("VPSRLQ", "$32", 0, 0)
		a.op("VPMOVQB", 0, quarter(1))
		a.op("VMOVQ", quarter(1), "AX")
		a.op("PEXTQ", "BX", "AX", "AX")
		a.op("MOVQ", "AX", "(SI)")
		a.op("ADDQ", "$64", "R8")
		a.op("ADDQ", "$32", "DI")
		a.op("ADDQ", "R10", "SI")
	})
	a.end()

	for _, add := range []bool{false, true} {
		name := "unpackHigh"
		if add {
			name = "addHigh"
		}
		// mask has the h highest bits of every byte, shift is 24 + h.
		f = a.begin(name, "dst *int64; low *byte; high *byte; n int; h int; mask uint64; shift uint64", "uint64")
		a.pointers(f, "dst", "low", "high")
		a.op("MOVQ", f["n"], "CX")
		a.op("MOVQ", f["h"], "R10")
		a.op("MOVQ", f["mask"], "BX")
		a.op("VMOVQ", f["shift"], quarter(15))
		a.zero(10)
		a.eights(func() {
			a.op("MOVQ", "(R8)", "AX")
			a.op("PDEPQ", "BX", "AX", "AX")
			a.op("VMOVQ", "AX", quarter(1))
			a.op("VPMOVSXBQ", quarter(1), 1)
			a.op("VPSLLQ", quarter(15), 1, 1)
			a.op("VPMOVZXDQ", "(SI)", 0)
			a.op("VPORQ", 0, 1, 1)
			a.op("VPSLLQ", "$1", 1, 2)
			a.op("VPSRAQ", "$63", 1, 3)
			a.op("VPTERNLOGQ", zigzagOr, 2, 3, 10)
			if add {
				a.op("VPADDQ", "(DI)", 1, 1)
			}
			a.op("VMOVDQU64", 1, "(DI)")
			a.op("ADDQ", "$64", "DI")
			a.op("ADDQ", "$32", "SI")
			a.op("ADDQ", "R10", "R8")
		})
		a.orQuads(10)
		a.op("MOVQ", "AX", f["ret"])
		a.end()
	}
}

// eights writes a loop of CX/8 steps.
func (a *asm) eights(step func()) {
	next, done := a.fresh("next"), a.fresh("done")
	a.op("SHRQ", "$3", "CX")
	a.op("JEQ", done)
	a.label(next)
	step()
	a.op("DECQ", "CX")
	a.op("JNE", next)
	a.label(done)
}

// orQuads leaves the or of the eight words of r in AX.
func (a *asm) orQuads(r int) {
	a.op("VEXTRACTI64X4", "$1", r, half(0))
	a.op("VPOR", half(0), half(r), half(r))
	a.op("VEXTRACTI128", "$1", half(r), quarter(0))
	a.op("VPOR", quarter(0), quarter(r), quarter(r))
	a.op("VPSRLDQ", "$8", quarter(r), quarter(0))
	a.op("VPOR", quarter(0), quarter(r), quarter(r))
	a.op("VMOVQ", quarter(r), "AX")
}
