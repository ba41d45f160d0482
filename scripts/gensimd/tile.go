package main

import "fmt"

// tiles writes the kernels of attention.
func tiles(a *asm) {
	multiply(a)
	transpose(a)
	scaleRows(a)
	maskTile(a)
	softmax(a)
	grad(a)
}

// shape is the block of C that stays in registers.
type shape struct {
	rows, vectors int
	tail          bool // the last vector is masked
}

// most returns how many rows of C fit in registers beside the vectors of B and one value of A.
func (a *asm) most(vectors int) int {
	if a.wide && vectors <= 2 {
		return 12
	}
	return 6
}

// multiply writes one panel of up to 4 (2) vectors of columns: C[m, n] = A B or C += A B, A[i, k] at a + i*ai + k*ak bytes.
//
//	SI, DI: A and C at the block's first row; AX, DX: A and B at k; R8 ai, R9 3ai, R10 5ai, R11 ak, R12 ldb, R13 ldc
func multiply(a *asm) {
	widest := 2
	if a.wide {
		widest = 4
	}
	f := a.begin("multiply", "m, n, k int; a *float32; ai, ak int; b *float32; ldb int; c *float32; ldc, add int", "")
	a.op("MOVQ", f["n"], "CX")
	if a.wide {
		// The last vector always goes by K1: full when n is a multiple of 16.
		a.op("DECQ", "CX")
		a.op("ANDQ", "$15", "CX")
		a.op("INCQ", "CX")
		a.setTail("CX")
	} else {
		a.op("ANDQ", "$7", "CX")
		a.setTail("CX")
	}
	a.op("MOVQ", f["m"], "R14")
	a.op("MOVQ", f["a"], "SI")
	a.op("MOVQ", f["ai"], "R8")
	a.op("LEAQ", "(R8)(R8*2)", "R9")
	a.op("LEAQ", "(R8)(R8*4)", "R10")
	a.op("MOVQ", f["ak"], "R11")
	a.op("MOVQ", f["ldb"], "R12")
	a.op("MOVQ", f["c"], "DI")
	a.op("MOVQ", f["ldc"], "R13")
	a.op("MOVQ", f["n"], "CX")
	for v := 1; v <= widest; v++ {
		if a.wide {
			if v < widest {
				a.op("CMPQ", "CX", fmt.Sprintf("$%d", 16*v))
				a.op("JLE", fmt.Sprintf("panel%d", v))
			} else {
				a.op("JMP", fmt.Sprintf("panel%d", v))
			}
			continue
		}
		a.op("CMPQ", "CX", fmt.Sprintf("$%d", 8*v))
		a.op("JLT", fmt.Sprintf("panel%dt", v))
		a.op("JEQ", fmt.Sprintf("panel%d", v))
	}
	for v := 1; v <= widest; v++ {
		panel(a, f, v, a.wide)
		if !a.wide {
			panel(a, f, v, true)
		}
	}
}

func panel(a *asm, f map[string]string, vectors int, tail bool) {
	name := fmt.Sprintf("panel%d", vectors)
	if tail && !a.wide {
		name += "t"
	}
	a.label(name)
	most := a.most(vectors)
	a.op("CMPQ", "R14", fmt.Sprintf("$%d", most))
	a.op("JGE", fmt.Sprintf("%srows%d", name, most))
	for r := most - 1; r >= 1; r-- {
		if most == 12 && r > 6 {
			continue // 7 .. 11 rows are 6 and the rest
		}
		a.op("CMPQ", "R14", fmt.Sprintf("$%d", r))
		a.op("JGE", fmt.Sprintf("%srows%d", name, r))
	}
	a.op("VZEROUPPER")
	a.op("RET")
	for r := most; r >= 1; r-- {
		if most == 12 && r > 6 && r < 12 {
			continue
		}
		a.label(fmt.Sprintf("%srows%d", name, r))
		block(a, f, shape{r, vectors, tail})
		a.op("JMP", name)
	}
}

func block(a *asm, f map[string]string, s shape) {
	acc := func(r, v int) int { return r*s.vectors + v }
	b0 := s.rows * s.vectors // vectors of B
	one := b0 + s.vectors    // a value of A
	mem := func(base string, v int) string { return fmt.Sprintf("%d(%s)", v*a.bytes(), base) }
	masked := func(v int) bool { return s.tail && v == s.vectors-1 }
	rowOf := func(r int) string { // r = 0 .. 5 from AX, 6 .. 11 from R15
		base := "AX"
		if r >= 6 {
			base, r = "R15", r-6
		}
		return fmt.Sprintf([]string{"(%s)", "(%s)(R8*1)", "(%s)(R8*2)", "(%s)(R9*1)", "(%s)(R8*4)", "(%s)(R10*1)"}[r], base)
	}
	zero, start, next := a.fresh("zero"), a.fresh("start"), a.fresh("next")

	a.op("CMPQ", f["add"], "$0")
	a.op("JEQ", zero)
	a.op("MOVQ", "DI", "BX")
	for r := range s.rows {
		for v := range s.vectors {
			a.load(mem("BX", v), acc(r, v), masked(v))
		}
		if r < s.rows-1 {
			a.op("ADDQ", "R13", "BX")
		}
	}
	a.op("JMP", start)
	a.label(zero)
	for r := range s.rows {
		for v := range s.vectors {
			a.zero(acc(r, v))
		}
	}
	a.label(start)
	a.op("MOVQ", "SI", "AX")
	if s.rows > 6 {
		a.op("LEAQ", "(SI)(R9*2)", "R15")
	}
	a.op("MOVQ", f["b"], "DX")
	a.op("MOVQ", f["k"], "CX")
	a.label(next)
	for v := range s.vectors {
		a.load(mem("DX", v), b0+v, masked(v))
	}
	a.op("ADDQ", "R12", "DX")
	for r := range s.rows {
		a.op("VBROADCASTSS", rowOf(r), one)
		for v := range s.vectors {
			a.op("VFMADD231PS", b0+v, one, acc(r, v))
		}
	}
	a.op("ADDQ", "R11", "AX")
	if s.rows > 6 {
		a.op("ADDQ", "R11", "R15")
	}
	a.op("DECQ", "CX")
	a.op("JNE", next)
	for r := range s.rows {
		for v := range s.vectors {
			a.store(acc(r, v), mem("DI", v), masked(v))
		}
		a.op("ADDQ", "R13", "DI")
	}
	for _, part := range []struct {
		rows     int
		register string
		scale    int
	}{{1, "R8", 1}, {2, "R8", 2}, {3, "R9", 1}, {4, "R8", 4}, {5, "R10", 1}, {6, "R9", 2}, {12, "R9", 4}} {
		if part.rows == s.rows {
			a.op("LEAQ", fmt.Sprintf("(SI)(%s*%d)", part.register, part.scale), "SI")
		}
	}
	a.op("SUBQ", fmt.Sprintf("$%d", s.rows), "R14")
}

// transpose writes 8 x 8 blocks, in 32-byte vectors on both levels.
func transpose(a *asm) {
	f := a.begin("transpose", "dst *float32; ldd int; src *float32; lds, rows, cols int", "")
	op := func(name string, operands ...any) {
		for i, x := range operands {
			if r, ok := x.(int); ok {
				operands[i] = half(r)
			}
		}
		a.op(name, operands...)
	}
	a.op("MOVQ", f["dst"], "DI")
	a.op("MOVQ", f["ldd"], "R8")
	a.op("MOVQ", f["src"], "SI")
	a.op("MOVQ", f["lds"], "R9")
	a.op("MOVQ", f["rows"], "BX")
	a.op("LEAQ", "(R8)(R8*2)", "R10")
	a.op("LEAQ", "(R9)(R9*2)", "R11")
	rows, cols := a.fresh("rows"), a.fresh("cols")
	a.label(rows)
	a.op("MOVQ", "SI", "AX")
	a.op("MOVQ", "DI", "DX")
	a.op("MOVQ", f["cols"], "CX")
	a.label(cols)
	a.op("LEAQ", "(AX)(R9*4)", "R12")
	for r := range 8 {
		base := "AX"
		if r >= 4 {
			base = "R12"
		}
		op("VMOVUPS", fmt.Sprintf([]string{"(%s)", "(%s)(R9*1)", "(%s)(R9*2)", "(%s)(R11*1)"}[r%4], base), r)
	}
	for i := 0; i < 8; i += 2 { // pairs of rows: 8 .. 15
		op("VUNPCKLPS", i+1, i, 8+i)
		op("VUNPCKHPS", i+1, i, 9+i)
	}
	for i := 0; i < 8; i += 4 { // quadruples: 0 .. 7
		op("VSHUFPS", "$0x44", 10+i, 8+i, i)
		op("VSHUFPS", "$0xee", 10+i, 8+i, i+1)
		op("VSHUFPS", "$0x44", 11+i, 9+i, i+2)
		op("VSHUFPS", "$0xee", 11+i, 9+i, i+3)
	}
	for i := range 4 {
		op("VPERM2F128", "$0x20", 4+i, i, 8+i)
		op("VPERM2F128", "$0x31", 4+i, i, 12+i)
	}
	a.op("LEAQ", "(DX)(R8*4)", "R12")
	for r := range 8 {
		base := "DX"
		if r >= 4 {
			base = "R12"
		}
		op("VMOVUPS", 8+r, fmt.Sprintf([]string{"(%s)", "(%s)(R8*1)", "(%s)(R8*2)", "(%s)(R10*1)"}[r%4], base))
	}
	a.op("ADDQ", "$32", "AX")
	a.op("LEAQ", "(DX)(R8*8)", "DX")
	a.op("SUBQ", "$8", "CX")
	a.op("JNE", cols)
	a.op("LEAQ", "(SI)(R9*8)", "SI")
	a.op("ADDQ", "$32", "DI")
	a.op("SUBQ", "$8", "BX")
	a.op("JNE", rows)
	a.end()
}

// scaleRows copies rows of d values, row i times the value at scale + i*step bytes.
func scaleRows(a *asm) {
	f := a.begin("scaleRows", "dst *float32; ldd int; src *float32; lds, rows, d int; factor *float32; step int", "")
	a.op("MOVQ", f["dst"], "DI")
	a.op("MOVQ", f["ldd"], "R8")
	a.op("MOVQ", f["src"], "SI")
	a.op("MOVQ", f["lds"], "R9")
	a.op("MOVQ", f["rows"], "BX")
	a.op("MOVQ", f["d"], "R13")
	a.op("MOVQ", f["factor"], "R10")
	a.op("MOVQ", f["step"], "R11")
	row := a.fresh("row")
	a.label(row)
	a.op("VBROADCASTSS", "(R10)", 14)
	a.op("MOVQ", "R13", "CX")
	a.loop(4, func(i, shift int, tail bool) {
		a.load(at("SI", shift), i, tail)
		a.op("VMULPS", 14, i, i)
		a.store(i, at("DI", shift), tail)
	})
	a.op("ADDQ", "R8", "DI")
	a.op("ADDQ", "R9", "SI")
	a.op("ADDQ", "R11", "R10")
	a.op("DECQ", "BX")
	a.op("JNE", row)
	a.end()
}

// columns runs body for every vector of R13 columns (the last as a tail); AX is the byte offset of the vector.
func (a *asm) columns(body func(tail bool)) {
	next, tail, done := a.fresh("columns"), a.fresh("tail"), a.fresh("done")
	w := fmt.Sprintf("$%d", a.lanes())
	a.op("XORQ", "AX", "AX")
	a.label(next)
	a.op("CMPQ", "R13", w)
	a.op("JLT", tail)
	body(false)
	a.op("ADDQ", fmt.Sprintf("$%d", a.bytes()), "AX")
	a.op("SUBQ", w, "R13")
	a.op("JMP", next)
	a.label(tail)
	a.op("TESTQ", "R13", "R13")
	a.op("JEQ", done)
	a.setTail("R13")
	body(true)
	a.label(done)
}

// down runs body for every of the `keys` rows; the row's address is in BX, the number of rows left in CX.
func (a *asm) down(f map[string]string, body func()) {
	next := a.fresh("down")
	a.op("LEAQ", "(DI)(AX*1)", "BX")
	a.op("MOVQ", f["keys"], "CX")
	a.label(next)
	body()
	a.op("ADDQ", "SI", "BX")
	a.op("DECQ", "CX")
	a.op("JNE", next)
}

func maskTile(a *asm) {
	f := a.begin("maskTile", "s *float32; ld, keys, cols, j0 int; lo, hi *int32", "")
	a.op("MOVQ", f["s"], "DI")
	a.op("MOVQ", f["ld"], "SI")
	a.op("MOVQ", f["cols"], "R13")
	a.op("MOVQ", f["lo"], "R8")
	a.op("MOVQ", f["hi"], "R9")
	a.op("VMOVUPS", a.word("minusInf", 0xff800000), 5)
	a.op("VMOVUPS", a.word("oneWord", 1), 6)
	a.columns(func(tail bool) {
		a.load(at("R8", 0), 0, tail)
		a.load(at("R9", 0), 1, tail)
		a.op("MOVQ", f["j0"], "BX")
		a.op("VMOVD", "BX", quarter(2))
		a.op("VPBROADCASTD", quarter(2), 2)
		a.down(f, func() {
			if a.wide {
				a.op("VPCMPD", "$1", 0, 2, "K2") // key < lo
				a.op("VPCMPD", "$5", 1, 2, "K3") // key >= hi
				a.op("KORW", "K2", "K3", "K2")
				if tail {
					a.op("KANDW", "K1", "K2", "K2")
				}
				a.op("VMOVUPS", 5, "K2", "(BX)")
			} else {
				a.op("VPCMPGTD", 2, 0, 3) // lo > key
				a.op("VPCMPGTD", 2, 1, 4) // hi > key
				a.op("VPANDN", 4, 3, 4)   // seen
				a.load("(BX)", 7, tail)
				a.op("VBLENDVPS", 4, 7, 5, 7)
				a.store(7, "(BX)", tail)
			}
			a.op("VPADDD", 6, 2, 2)
		})
	})
	a.end()
}

func softmax(a *asm) {
	f := a.begin("softmax", "s *float32; ld, keys, cols int; top, sum, shrink *float32", "")
	a.op("MOVQ", f["s"], "DI")
	a.op("MOVQ", f["ld"], "SI")
	a.op("MOVQ", f["cols"], "R13")
	a.op("MOVQ", f["top"], "R8")
	a.op("MOVQ", f["sum"], "R9")
	a.op("MOVQ", f["shrink"], "R10")
	a.columns(func(tail bool) {
		a.load(at("R8", 0), 4, tail)
		a.op("VMOVAPS", 4, 5)
		a.down(f, func() {
			if tail && !a.wide {
				a.load("(BX)", 0, true)
				a.op("VMAXPS", 0, 5, 5)
			} else if tail {
				a.op("VMAXPS", "(BX)", 5, "K1", 5)
			} else {
				a.op("VMAXPS", "(BX)", 5, 5)
			}
		})
		a.store(5, at("R8", 0), tail)
		a.op("VSUBPS", 5, 4, 0)
		a.exp(0, 1, 2, 3)
		a.store(0, at("R10", 0), tail)
		a.load(at("R9", 0), 4, tail)
		a.op("VMULPS", 0, 4, 4)
		a.down(f, func() {
			a.load("(BX)", 0, tail)
			a.op("VSUBPS", 5, 0, 0)
			a.exp(0, 1, 2, 3)
			a.op("VADDPS", 0, 4, 4)
			a.store(0, "(BX)", tail)
		})
		a.store(4, at("R9", 0), tail)
	})
	a.end()
}

func grad(a *asm) {
	f := a.begin("grad", "s, dp *float32; ld, keys, cols int; lse, delta *float32", "")
	a.op("MOVQ", f["s"], "DI")
	a.op("MOVQ", f["dp"], "R11")
	a.op("SUBQ", "DI", "R11") // dP lies at the same offsets from S
	a.op("MOVQ", f["ld"], "SI")
	a.op("MOVQ", f["cols"], "R13")
	a.op("MOVQ", f["lse"], "R8")
	a.op("MOVQ", f["delta"], "R9")
	a.columns(func(tail bool) {
		a.load(at("R8", 0), 4, tail)
		a.load(at("R9", 0), 5, tail)
		a.down(f, func() {
			a.load("(BX)", 0, tail)
			a.op("VSUBPS", 4, 0, 0)
			a.exp(0, 1, 2, 3)
			a.store(0, "(BX)", tail)
			a.load("(BX)(R11*1)", 6, tail)
			a.op("VSUBPS", 5, 6, 6)
			a.op("VMULPS", 0, 6, 6)
			a.store(6, "(BX)(R11*1)", tail)
		})
	})
	a.end()
}
