package main

import "fmt"

// int256 is the product of int8 by AVX2: tiles of 2 rows x 16. Bytes are widened to words before they are multiplied:
// VPMADDUBSW would saturate. Sums of a group Y0..Y7 (4 columns each, two halves a column), results Y8..Y11.
func int256() string {
	a := newFile()
	a.text("func int8Tile256(x unsafe.Pointer, rs int, w unsafe.Pointer, groups int, out *[32]float32)\n"+
		"// out[i][j] = sum over groups of sw[j] * (sx[i] * (offset[i] + sum over p of x[i,p] * (w[p,j] + 128)))", "int8Tile256", 40)
	a.f("MOVQ x+0(FP), AX")
	a.f("MOVQ rs+8(FP), R8")
	a.f("MOVQ w+16(FP), SI")
	a.f("MOVQ groups+24(FP), R11")
	a.f("MOVQ out+32(FP), DI")
	for i := range 4 {
		a.f("VPXOR Y%d, Y%d, Y%d", 8+i, 8+i, 8+i)
	}
	a.f("TESTQ R11, R11")
	a.f("JEQ store")
	a.f("PCALIGN $32")
	a.label("group")
	for i := range 8 {
		a.f("VPXOR Y%d, Y%d, Y%d", i, i, i)
	}
	for q := range intQuads {
		for i := range 2 {
			a.f("VPBROADCASTD %s, X%d", intRow(i, 4*q), 12+i)
			a.f("VPMOVSXBW X%d, Y%d", 12+i, 12+i)
		}
		for j := range 4 {
			a.f("VPMOVZXBW %d(SI), Y14", 128*q+16*j)
			for i := range 2 {
				a.f("VPMADDWD Y14, Y%d, Y15", 12+i)
				a.f("VPADDD Y15, Y%d, Y%d", 4*i+j, 4*i+j)
			}
		}
	}
	for i := range 2 {
		a.f("VPBROADCASTD %s, Y12", intRow(i, intOffset))
		a.f("VBROADCASTSS %s, Y13", intRow(i, intScale))
		for j := range 2 {
			s, c := 4*i+2*j, 8+2*i+j
			a.f("VPHADDD Y%d, Y%d, Y%d", s+1, s, s)
			a.f("VPERMQ $0xd8, Y%d, Y%d", s, s)
			a.f("VPADDD Y12, Y%d, Y%d", s, s)
			a.f("VCVTDQ2PS Y%d, Y%d", s, s)
			a.f("VMULPS Y13, Y%d, Y%d", s, s)
			a.f("VFMADD231PS %d(SI), Y%d, Y%d", intScales+32*j, s, c)
		}
	}
	a.f("ADDQ $%d, SI", intWideBlock)
	a.f("ADDQ $%d, AX", intRowBlock)
	a.f("DECQ R11")
	a.f("JNE group")
	a.label("store")
	for i := range 4 {
		a.f("VMOVUPS Y%d, %d(DI)", 8+i, 32*i)
	}
	a.f("VZEROUPPER")
	a.f("RET")
	a.quantize256()
	return a.String()
}

// quantize256 is the blocks of rows of x, as quantize512.
func (a *asm) quantize256() {
	a.text("func quantize256(dst, src unsafe.Pointer, groups int)\n// groups of 32 floats to blocks of 40 bytes", "quantize256", 24)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ src+8(FP), SI")
	a.f("MOVQ groups+16(FP), R8")
	a.constant(intSign, "Y13")
	a.constant(intLeast, "Y14")
	a.constant(intMost, "Y15")
	a.f("PCALIGN $32")
	a.label("loop")
	for i := range 4 {
		a.f("VMOVUPS %d(SI), Y%d", 32*i, i)
		a.f("VPAND Y%d, Y13, Y%d", i, 4+i)
	}
	a.f("VPMAXSD Y4, Y5, Y4")
	a.f("VPMAXSD Y6, Y7, Y6")
	a.f("VPMAXSD Y4, Y6, Y4")
	a.f("VEXTRACTI128 $1, Y4, X5")
	a.f("VPMAXSD X4, X5, X4")
	a.f("VPSHUFD $0x4e, X4, X5")
	a.f("VPMAXSD X4, X5, X4")
	a.f("VPSHUFD $0xb1, X4, X5")
	a.f("VPMAXSD X4, X5, X4")
	a.f("VPMAXSD X14, X4, X4")
	a.f("VDIVSS X4, X15, X6") // 127 / most
	a.f("VDIVSS X15, X4, X5") // most / 127
	a.f("VBROADCASTSS X6, Y6")
	for i := range 4 {
		a.f("VMULPS Y6, Y%d, Y%d", i, i)
		a.f("VCVTPS2DQ Y%d, Y%d", i, i)
	}
	a.f("VPADDD Y0, Y1, Y7")
	a.f("VPADDD Y2, Y3, Y8")
	a.f("VPADDD Y7, Y8, Y7")
	for i := range 2 { // to words, then to bytes, which leaves the lanes' words mixed
		a.f("VPACKSSDW Y%d, Y%d, Y%d", 2*i+1, 2*i, 9+i)
	}
	a.f("VPACKSSWB Y10, Y9, Y9")
	a.f("VMOVDQU ·order256(SB), Y10")
	a.f("VPERMD Y9, Y10, Y9")
	a.f("VMOVDQU Y9, (DI)")
	a.f("VEXTRACTI128 $1, Y7, X1")
	a.f("VMOVDQA X7, X0")
	a.intSum()
	a.f("ADDQ $128, SI")
	a.f("ADDQ $%d, DI", intRowBlock)
	a.f("DECQ R8")
	a.f("JNE loop")
	a.f("VZEROUPPER")
	a.f("RET")
	a.raw("\n// What undoes the mixing of two packings: each lane holds four words of each of its sources.\n")
	for i, v := range []int{0, 4, 1, 5, 2, 6, 3, 7} {
		a.raw(fmt.Sprintf("DATA ·order256+%d(SB)/4, $%d\n", 4*i, v))
	}
	a.raw("GLOBL ·order256(SB), RODATA|NOPTR, $32\n")
}
