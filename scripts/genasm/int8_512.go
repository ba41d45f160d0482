package main

import "fmt"

// Offsets of the fields of gemm's int8Strip, and the layout of its blocks.
const (
	offIntX, offIntRS     = 0, 8
	offIntW, offIntPanel  = 16, 24
	offIntC, offIntLDC    = 32, 40
	offIntBias, offIntM   = 48, 56
	offIntN, offIntGroups = 64, 72
	offIntAdd             = 80
	intQuads              = 8      // steps of four values in a group
	intScale, intOffset   = 32, 36 // in a block of a row of x
	intRowBlock           = 40
	intScales             = 1024 // in a block of a panel of W
	intWideBlock          = 1152
	intRows               = 6 // rows of the tallest tile
	intLeast              = 0x0da24260
	intMost               = 0x42fe0000 // 127
	intSign               = 0x7fffffff
)

// intRow is the address of byte at of the block of row i of x: AX is row 0, BX row 3, R8 the stride.
func intRow(i, at int) string {
	reg := []string{"AX", "BX"}[i/3]
	switch i % 3 {
	case 0:
		return fmt.Sprintf("%d(%s)", at, reg)
	case 1:
		return fmt.Sprintf("%d(%s)(R8*1)", at, reg)
	default:
		return fmt.Sprintf("%d(%s)(R8*2)", at, reg)
	}
}

// int512 is the product of int8 by AVX-512 VNNI: tiles of rows x 32. Sums of a group Z20..Z31, results Z8..Z19, W in Z0 and
// Z1, values of x in Z2..Z5, scales of W in Z6 and Z7.
//
//	for each 32 columns: c = 0; for each group: sum = offset[i] + sum over p of x[i,p] * (w[p] + 128); c = fma(sum * sx[i], sw, c)
func int512() string {
	a := newFile()
	a.text("func int8Strip512(s *int8Strip)", "int8Strip512", 8)
	a.f("MOVQ s+0(FP), DI")
	a.f("MOVQ %d(DI), R8", offIntRS)
	a.f("MOVQ %d(DI), R12", offIntC)
	a.f("MOVQ %d(DI), R13", offIntBias)
	a.f("MOVQ %d(DI), R14", offIntN)
	a.f("MOVQ %d(DI), R15", offIntW)
	a.f("MOVQ %d(DI), R10", offIntLDC)
	a.f("MOVQ %d(DI), R9", offIntM)
	for r := intRows; r > 1; r-- {
		a.f("CMPQ R9, $%d", r)
		a.f("JEQ rows%d", r)
	}
	for r := 1; r <= intRows; r++ {
		a.int512Rows(r)
	}
	a.label("done")
	a.f("VZEROUPPER")
	a.f("RET")
	a.quantize512()
	return a.String()
}

// int512Rows is the strip for one height.
func (a *asm) int512Rows(r int) {
	sum := func(i, j int) string { return fmt.Sprintf("Z%d", 20+2*i+j) }
	acc := func(i, j int) string { return fmt.Sprintf("Z%d", 8+2*i+j) }
	a.label("rows%d", r)
	a.f("CMPQ R14, $0")
	a.f("JLE done")
	a.f("MOVQ $-1, DX") // K1 and K2: columns of the panel
	a.f("CMPQ R14, $32")
	a.f("JGE whole%d", r)
	a.f("MOVQ R14, CX")
	a.f("MOVQ $1, DX")
	a.f("SHLQ CX, DX")
	a.f("DECQ DX")
	a.label("whole%d", r)
	a.f("KMOVW DX, K1")
	a.f("SHRQ $16, DX")
	a.f("KMOVW DX, K2")
	a.f("MOVQ %d(DI), AX", offIntX)
	if r > 3 {
		a.f("LEAQ (AX)(R8*2), BX")
		a.f("ADDQ R8, BX")
	}
	a.f("MOVQ R15, SI")
	a.f("MOVQ %d(DI), R11", offIntGroups)
	for i := range r {
		for j := range 2 {
			a.f("VPXORQ %s, %s, %s", acc(i, j), acc(i, j), acc(i, j))
		}
	}
	a.f("TESTQ R11, R11")
	a.f("JEQ store%d", r)
	a.f("PCALIGN $32")
	a.label("group%d", r)
	for i := range r {
		a.f("VPBROADCASTD %s, %s", intRow(i, intOffset), sum(i, 0))
		a.f("VMOVDQA64 %s, %s", sum(i, 0), sum(i, 1))
	}
	for q := range intQuads {
		for j := range 2 {
			a.f("VMOVDQU64 %d(SI), Z%d", 128*q+64*j, j)
		}
		for i := range r {
			t := fmt.Sprintf("Z%d", 2+i%4)
			a.f("VPBROADCASTD %s, %s", intRow(i, 4*q), t)
			for j := range 2 {
				a.f("VPDPBUSD %s, Z%d, %s", t, j, sum(i, j))
			}
		}
	}
	for j := range 2 {
		a.f("VMOVUPS %d(SI), Z%d", intScales+64*j, 6+j)
	}
	for i := range r {
		for j := range 2 {
			a.f("VCVTDQ2PS %s, %s", sum(i, j), sum(i, j))
		}
	}
	for i := range r {
		t := fmt.Sprintf("Z%d", 2+i%4)
		a.f("VBROADCASTSS %s, %s", intRow(i, intScale), t)
		for j := range 2 {
			a.f("VMULPS %s, %s, %s", t, sum(i, j), sum(i, j))
		}
		for j := range 2 {
			a.f("VFMADD231PS Z%d, %s, %s", 6+j, sum(i, j), acc(i, j))
		}
	}
	a.f("ADDQ $%d, SI", intWideBlock)
	a.f("ADDQ $%d, AX", intRowBlock)
	if r > 3 {
		a.f("ADDQ $%d, BX", intRowBlock)
	}
	a.f("DECQ R11")
	a.f("JNE group%d", r)

	a.label("store%d", r)
	a.f("TESTQ R13, R13")
	a.f("JEQ plain%d", r)
	for j := range 2 {
		a.f("VMOVUPS.Z %d(R13), K%d, Z%d", 64*j, j+1, j)
	}
	for i := range r {
		for j := range 2 {
			a.f("VADDPS Z%d, %s, %s", j, acc(i, j), acc(i, j))
		}
	}
	a.f("ADDQ $128, R13")
	a.label("plain%d", r)
	for _, add := range []bool{true, false} {
		if add {
			a.f("CMPQ %d(DI), $0", offIntAdd)
			a.f("JEQ set%d", r)
		} else {
			a.label("set%d", r)
		}
		a.f("MOVQ R12, DX")
		for i := range r {
			for j := range 2 {
				if add {
					a.f("VADDPS %d(DX), %s, K%d, %s", 64*j, acc(i, j), j+1, acc(i, j))
				}
				a.f("VMOVUPS %s, K%d, %d(DX)", acc(i, j), j+1, 64*j)
			}
			if i+1 < r {
				a.f("ADDQ R10, DX")
			}
		}
		if add {
			a.f("JMP next%d", r)
		}
	}
	a.label("next%d", r)
	a.f("ADDQ $128, R12")
	a.f("ADDQ %d(DI), R15", offIntPanel)
	a.f("SUBQ $32, R14")
	a.f("JMP rows%d", r)
}

// constant puts a 32-bit value into all lanes of a register.
func (a *asm) constant(value uint32, reg string) {
	a.f("MOVL $0x%x, AX", value)
	a.f("VMOVD AX, X%s", reg[1:])
	a.f("VPBROADCASTD X%s, %s", reg[1:], reg)
}

// quantize512 is the blocks of rows of x: the largest magnitude of 32 values, the integers, their sum.
func (a *asm) quantize512() {
	a.text("func quantize512(dst, src unsafe.Pointer, groups int)\n// groups of 32 floats to blocks of 40 bytes", "quantize512", 24)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ src+8(FP), SI")
	a.f("MOVQ groups+16(FP), R8")
	a.constant(intSign, "Z16")
	a.constant(intLeast, "Y17")
	a.constant(intMost, "Y18")
	a.f("PCALIGN $32")
	a.label("loop")
	a.f("VMOVUPS (SI), Z0")
	a.f("VMOVUPS 64(SI), Z1")
	a.f("VPANDD Z0, Z16, Z2")
	a.f("VPANDD Z1, Z16, Z3")
	a.f("VPMAXSD Z2, Z3, Z2")
	a.f("VEXTRACTI64X4 $1, Z2, Y3")
	a.f("VPMAXSD Y2, Y3, Y2")
	a.f("VEXTRACTI128 $1, Y2, X3")
	a.f("VPMAXSD X2, X3, X2")
	a.f("VPSHUFD $0x4e, X2, X3")
	a.f("VPMAXSD X2, X3, X2")
	a.f("VPSHUFD $0xb1, X2, X3")
	a.f("VPMAXSD X2, X3, X2")
	a.f("VPMAXSD X17, X2, X2")
	a.f("VDIVSS X2, X18, X4") // 127 / most
	a.f("VDIVSS X18, X2, X5") // most / 127
	a.f("VBROADCASTSS X4, Z4")
	a.f("VMULPS Z4, Z0, Z0")
	a.f("VMULPS Z4, Z1, Z1")
	a.f("VCVTPS2DQ Z0, Z0")
	a.f("VCVTPS2DQ Z1, Z1")
	a.f("VPMOVSDB Z0, (DI)")
	a.f("VPMOVSDB Z1, 16(DI)")
	a.f("VPADDD Z0, Z1, Z0")
	a.f("VEXTRACTI64X4 $1, Z0, Y1")
	a.f("VPADDD Y0, Y1, Y0")
	a.f("VEXTRACTI128 $1, Y0, X1")
	a.intSum()
	a.f("ADDQ $128, SI")
	a.f("ADDQ $%d, DI", intRowBlock)
	a.f("DECQ R8")
	a.f("JNE loop")
	a.f("VZEROUPPER")
	a.f("RET")
}

// intSum writes the scale of X5 and -128 times the sum of X0 and X1.
func (a *asm) intSum() {
	a.f("VPADDD X0, X1, X0")
	a.f("VPSHUFD $0x4e, X0, X1")
	a.f("VPADDD X0, X1, X0")
	a.f("VPSHUFD $0xb1, X0, X1")
	a.f("VPADDD X0, X1, X0")
	a.f("VMOVD X0, AX")
	a.f("SHLL $7, AX")
	a.f("NEGL AX")
	a.f("VMOVSS X5, %d(DI)", intScale)
	a.f("MOVL AX, %d(DI)", intOffset)
}
