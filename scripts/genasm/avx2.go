package main

import "fmt"

const rows256 = 6 // rows of the tallest tile

// strip256 is the AVX2 strip: tiles of rows x 16, two to a panel. Accumulators Y4..Y15, B in Y0 and Y1, broadcasts of A
// in Y2 and Y3. The operations on one element are those of strip512, in its order, so the bits are the same.
func strip256() string {
	a := newFile()
	a.raw("\n// Sixteen words of ones, then sixteen of zeros: the mask of n columns starts at word 16-n.\n")
	for i := range 32 {
		v := "0xffffffff"
		if i >= 16 {
			v = "0"
		}
		a.raw(fmt.Sprintf("DATA ·masks256+%d(SB)/4, $%s\n", 4*i, v))
	}
	a.raw("GLOBL ·masks256(SB), RODATA|NOPTR, $128\n")
	a.text("func strip256(s *strip)", "strip256", 8)
	a.f("MOVQ s+0(FP), DI")
	a.f("MOVQ %d(DI), %s", offRS, regRS)
	a.f("MOVQ %d(DI), %s", offCS, regCS)
	a.f("MOVQ %d(DI), %s", offLDB, regLDB)
	a.f("MOVQ %d(DI), %s", offAhead, regAhead)
	a.f("MOVQ %d(DI), %s", offN, regN)
	a.f("MOVQ %d(DI), %s", offB, regPanel)
	a.f("MOVQ %d(DI), %s", offC, regC)
	a.f("MOVQ %d(DI), AX", offM)
	for r := rows256; r > 1; r-- {
		a.f("CMPQ AX, $%d", r)
		a.f("JEQ rows%d", r)
	}
	for r := 1; r <= rows256; r++ {
		a.rows256(r)
	}
	a.label("done")
	a.f("VZEROUPPER")
	a.f("RET")
	return a.String()
}

// rows256 is the strip for one height: per panel the left 16 columns, then the right 16.
func (a *asm) rows256(r int) {
	a.label("rows%d", r)
	for _, side := range []string{"l", "r"} {
		a.f("CMPQ %s, $16", regN)
		a.f("JLT tail%d", r)
		a.tile256(r, side, false)
		a.f("ADDQ $64, %s", regC)
		a.f("SUBQ $16, %s", regN)
		if side == "l" {
			a.f("ADDQ $64, %s", regPanel)
		} else {
			a.f("ADDQ %d(DI), %s", offStep, regPanel)
			a.f("SUBQ $64, %s", regPanel)
			a.f("JMP rows%d", r)
		}
	}
	a.label("tail%d", r)
	a.f("CMPQ %s, $0", regN)
	a.f("JLE done")
	a.tile256(r, "m", true)
	a.f("JMP done")
}

// tile256 is one tile of r rows and 16 columns, or fewer if masked. The masks are loaded again at each step: no register
// is left to keep them.
func (a *asm) tile256(r int, side string, masked bool) {
	id := fmt.Sprintf("%d%s", r, side)
	acc := func(i, j int) string { return fmt.Sprintf("Y%d", 4+i*2+j) }
	for i := range r {
		for j := range 2 {
			a.f("VXORPS %s, %s, %s", acc(i, j), acc(i, j), acc(i, j))
		}
	}
	if masked {
		a.f("LEAQ ·masks256+64(SB), CX")
		a.f("LEAQ (%s*4), DX", regN)
		a.f("SUBQ DX, CX")
	}
	a.loadRows(r)
	a.f("MOVQ %s, %s", regPanel, regB)
	a.f("MOVQ %d(DI), %s", offK, regK)
	a.f("PCALIGN $32")
	a.label("loop%s", id)
	for j := range 2 {
		if masked {
			a.f("VMOVDQU %d(CX), Y%d", 32*j, 2+j)
			a.f("VMASKMOVPS %d(%s), Y%d, Y%d", 32*j, regB, 2+j, j)
		} else {
			a.f("VMOVUPS %d(%s), Y%d", 32*j, regB, j)
		}
	}
	if !masked {
		a.f("PREFETCHT0 (%s)(%s*1)", regB, regAhead)
	}
	for i := range r {
		t := fmt.Sprintf("Y%d", 2+i%2)
		a.f("VBROADCASTSS %s, %s", rowAddr(i), t)
		for j := range 2 {
			a.f("VFMADD231PS Y%d, %s, %s", j, t, acc(i, j))
		}
	}
	a.advance(r)
	a.f("DECQ %s", regK)
	a.f("JNE loop%s", id)

	a.f("VBROADCASTSS %d(DI), Y2", offAlpha)
	a.f("MOVQ %s, %s", regC, regB)
	a.f("MOVQ %d(DI), BX", offLDC)
	a.f("MOVL %d(DI), AX", offBeta)
	a.f("ADDL AX, AX") // drops the sign: beta -0 does not read C either
	a.f("JEQ clear%s", id)
	a.f("VBROADCASTSS %d(DI), Y3", offBeta)
	a.store256(r, masked, true, acc)
	a.f("JMP next%s", id)
	a.label("clear%s", id)
	a.store256(r, masked, false, acc)
	a.label("next%s", id)
}

func (a *asm) store256(r int, masked, add bool, acc func(i, j int) string) {
	for i := range r {
		for j := range 2 {
			a.f("VMULPS %s, Y2, %s", acc(i, j), acc(i, j))
			if masked {
				a.f("VMOVDQU %d(CX), Y0", 32*j)
			}
			if add && masked {
				a.f("VMASKMOVPS %d(%s), Y0, Y1", 32*j, regB)
				a.f("VFMADD231PS Y1, Y3, %s", acc(i, j))
			} else if add {
				a.f("VFMADD231PS %d(%s), Y3, %s", 32*j, regB, acc(i, j))
			}
			if masked {
				a.f("VMASKMOVPS %s, Y0, %d(%s)", acc(i, j), 32*j, regB)
			} else {
				a.f("VMOVUPS %s, %d(%s)", acc(i, j), 32*j, regB)
			}
		}
		if i+1 < r {
			a.f("ADDQ BX, %s", regB)
		}
	}
}
