package main

import "fmt"

const (
	rows512   = 12 // rows of the tallest tile
	unroll512 = 2  // steps of the reduction in the full tile's loop
)

// strip512 is the AVX-512 strip: tiles of rows x 32. Accumulators Z8..Z31, B in Z0 and Z1, broadcasts of A in Z2..Z7.
//
//	for each 32 columns: acc = 0; for p < k: acc[i] += a[i,p] * b[p]; c = alpha*acc + beta*c
func strip512() string {
	a := newFile()
	a.text("func strip512(s *strip)", "strip512", 8)
	a.f("MOVQ s+0(FP), DI")
	a.f("MOVQ %d(DI), %s", offRS, regRS)
	a.f("MOVQ %d(DI), %s", offCS, regCS)
	a.f("MOVQ %d(DI), %s", offLDB, regLDB)
	a.f("MOVQ %d(DI), %s", offAhead, regAhead)
	a.f("MOVQ %d(DI), %s", offN, regN)
	a.f("MOVQ %d(DI), %s", offB, regPanel)
	a.f("MOVQ %d(DI), %s", offC, regC)
	a.f("MOVQ %d(DI), AX", offM)
	for r := rows512; r > 1; r-- {
		a.f("CMPQ AX, $%d", r)
		a.f("JEQ rows%d", r)
	}
	for r := 1; r <= rows512; r++ {
		a.rows512(r)
	}
	a.label("done")
	a.f("VZEROUPPER")
	a.f("RET")
	return a.String()
}

// rows512 is the strip for one height.
func (a *asm) rows512(r int) {
	a.label("rows%d", r)
	a.f("CMPQ %s, $32", regN)
	a.f("JLT tail%d", r)
	a.tile512(r, 2, false)
	a.f("ADDQ %d(DI), %s", offStep, regPanel)
	a.f("ADDQ $128, %s", regC)
	a.f("SUBQ $32, %s", regN)
	a.f("JMP rows%d", r)

	a.label("tail%d", r)
	a.f("CMPQ %s, $0", regN)
	a.f("JLE done")
	a.f("CMPQ %s, $16", regN)
	a.f("JGT wide%d", r)
	a.f("JLT thin%d", r)
	a.tile512(r, 1, false)
	a.f("JMP done")
	a.label("thin%d", r)
	a.mask512("R14", "K1")
	a.tile512(r, 1, true)
	a.f("JMP done")
	a.label("wide%d", r)
	a.f("MOVQ $-1, AX")
	a.f("KMOVW AX, K1")
	a.f("SUBQ $16, R14")
	a.mask512("R14", "K2")
	a.tile512(r, 2, true)
	a.f("JMP done")
}

// mask512 sets the lowest n (1..16) bits of mask.
func (a *asm) mask512(n, mask string) {
	a.f("MOVQ %s, CX", n)
	a.f("MOVL $1, AX")
	a.f("SHLL CX, AX")
	a.f("DECL AX")
	a.f("KMOVW AX, %s", mask)
}

// tile512 is one tile of r rows and v vectors of 16 columns; masked tiles touch only the columns of K1 and K2.
func (a *asm) tile512(r, v int, masked bool) {
	id := fmt.Sprintf("%d_%d", r, v)
	if masked {
		id += "m"
	}
	acc := func(i, j int) string { return fmt.Sprintf("Z%d", 8+i*v+j) }
	for i := range r {
		for j := range v {
			a.f("VPXORQ %s, %s, %s", acc(i, j), acc(i, j), acc(i, j))
		}
	}
	if !masked && v == 2 { // the next tile of C is on its way while this one is computed
		a.f("LEAQ 128(%s), %s", regC, regB)
		a.f("MOVQ %d(DI), AX", offLDC)
		for i := range r {
			a.f("PREFETCHT0 (%s)", regB)
			a.f("PREFETCHT0 64(%s)", regB)
			if i+1 < r {
				a.f("ADDQ AX, %s", regB)
			}
		}
	}
	a.loadRows(r)
	a.f("MOVQ %s, %s", regPanel, regB)
	a.f("MOVQ %d(DI), %s", offK, regK)
	step := func() {
		for j := range v {
			switch {
			case masked:
				a.f("VMOVUPS.Z %d(%s), K%d, Z%d", 64*j, regB, j+1, j)
			default:
				a.f("VMOVUPS %d(%s), Z%d", 64*j, regB, j)
				a.f("PREFETCHT0 %d(%s)(%s*1)", 64*j, regB, regAhead)
			}
		}
		for i := range r {
			if v == 1 {
				a.f("VFMADD231PS.BCST %s, Z0, %s", rowAddr(i), acc(i, 0))
				continue
			}
			t := fmt.Sprintf("Z%d", 2+i%6)
			a.f("VBROADCASTSS %s, %s", rowAddr(i), t)
			for j := range v {
				a.f("VFMADD231PS Z%d, %s, %s", j, t, acc(i, j))
			}
		}
		a.advance(r)
	}
	if !masked && unroll512 > 1 {
		a.f("SUBQ $%d, %s", unroll512, regK)
		a.f("JLT rest%s", id)
		a.f("PCALIGN $32")
		a.label("loop%s", id)
		for range unroll512 {
			step()
		}
		a.f("SUBQ $%d, %s", unroll512, regK)
		a.f("JGE loop%s", id)
		a.label("rest%s", id)
		a.f("ADDQ $%d, %s", unroll512, regK)
		a.f("JEQ store%s", id)
	}
	a.label("one%s", id)
	step()
	a.f("DECQ %s", regK)
	a.f("JNE one%s", id)

	a.label("store%s", id)
	a.f("VBROADCASTSS %d(DI), Z2", offAlpha)
	a.f("VBROADCASTSS %d(DI), Z3", offBeta)
	a.f("MOVQ %s, %s", regC, regB)
	a.f("MOVQ %d(DI), BX", offLDC)
	a.f("MOVL %d(DI), AX", offBeta)
	a.f("ADDL AX, AX") // drops the sign: beta -0 does not read C either
	a.f("JEQ clear%s", id)
	a.store512(r, v, masked, true, acc)
	a.f("JMP next%s", id)
	a.label("clear%s", id)
	a.store512(r, v, masked, false, acc)
	a.label("next%s", id)
}

func (a *asm) store512(r, v int, masked, add bool, acc func(i, j int) string) {
	for i := range r {
		for j := range v {
			mask := ""
			if masked {
				mask = fmt.Sprintf("K%d, ", j+1)
			}
			a.f("VMULPS %s, Z2, %s", acc(i, j), acc(i, j))
			if add {
				a.f("VFMADD231PS %d(%s), Z3, %s%s", 64*j, regB, mask, acc(i, j))
			}
			a.f("VMOVUPS %s, %s%d(%s)", acc(i, j), mask, 64*j, regB)
		}
		if i+1 < r {
			a.f("ADDQ BX, %s", regB)
		}
	}
}
