package main

// pack256 is the packing of panels under AVX2.
func pack256() string {
	a := newFile()
	a.transpose256()
	a.copy256()
	a.widen256()
	return a.String()
}

// transpose256 turns blocks of 8 rows x 8 columns; k is a multiple of 8. Rows from w on repeat row w-1; all 8 lanes of
// each row of dst are stored.
func (a *asm) transpose256() {
	a.text("func transpose256(dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds, k, w int)\n"+
		"// dst[p][i] = src[min(i, w-1)][p] for i < 8, p < k; strides in bytes", "transpose256", 48)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ ldd+8(FP), R8")
	a.f("MOVQ src+16(FP), SI")
	a.f("MOVQ lds+24(FP), R9")
	a.f("MOVQ k+32(FP), R10")
	a.f("MOVQ w+40(FP), R11")
	a.label("block")
	a.f("MOVQ SI, AX")
	for i := range 8 {
		a.f("VMOVUPS (AX), Y%d", i)
		if i < 7 {
			a.f("XORL DX, DX") // step to the next row if there is one
			a.f("CMPQ R11, $%d", i+1)
			a.f("CMOVQGT R9, DX")
			a.f("ADDQ DX, AX")
		}
	}
	for i := 0; i < 8; i += 2 {
		a.f("VUNPCKLPS Y%d, Y%d, Y%d", i+1, i, 8+i)
		a.f("VUNPCKHPS Y%d, Y%d, Y%d", i+1, i, 9+i)
	}
	for i := 0; i < 8; i += 4 {
		for q := range 2 {
			a.f("VSHUFPS $0x44, Y%d, Y%d, Y%d", 10+i+q, 8+i+q, i+2*q)
			a.f("VSHUFPS $0xee, Y%d, Y%d, Y%d", 10+i+q, 8+i+q, i+2*q+1)
		}
	}
	for q := range 4 {
		a.f("VPERM2F128 $0x20, Y%d, Y%d, Y%d", 4+q, q, 8+q)
		a.f("VPERM2F128 $0x31, Y%d, Y%d, Y%d", 4+q, q, 12+q)
	}
	for i := range 8 {
		a.f("VMOVUPS Y%d, (DI)", 8+i)
		a.f("ADDQ R8, DI")
	}
	a.f("ADDQ $32, SI")
	a.f("SUBQ $8, R10")
	a.f("JNE block")
	a.f("VZEROUPPER")
	a.f("RET")
}

// copy256 copies rows into panels of 32 columns; whole vectors of 8 are stored.
func (a *asm) copy256() {
	a.text("func copy256(dst unsafe.Pointer, ldd, step int, src unsafe.Pointer, lds, k, n int)\n"+
		"// (dst + j/32*step)[p][j%32] = src[p][j], 0 from n on; ldd, step and lds in bytes", "copy256", 56)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ ldd+8(FP), R8")
	a.f("MOVQ step+16(FP), R11")
	a.f("MOVQ src+24(FP), SI")
	a.f("MOVQ lds+32(FP), R9")
	a.f("MOVQ k+40(FP), R10")
	a.f("MOVQ n+48(FP), R12")
	a.f("MOVQ R12, CX") // Y15: mask of the last vector, of 1 to 8 columns
	a.f("DECQ CX")
	a.f("ANDQ $7, CX")
	a.f("INCQ CX")
	a.f("NEGQ CX")
	a.f("LEAQ ·masks256+64(SB), AX")
	a.f("VMOVDQU (AX)(CX*4), Y15")
	a.label("row")
	a.f("MOVQ SI, AX")
	a.f("MOVQ DI, BX")
	a.f("MOVQ R12, DX")
	a.label("whole")
	a.f("CMPQ DX, $32")
	a.f("JLE last")
	for i := range 4 {
		a.f("VMOVUPS %d(AX), Y%d", 32*i, i)
	}
	for i := range 4 {
		a.f("VMOVUPS Y%d, %d(BX)", i, 32*i)
	}
	a.f("ADDQ $128, AX")
	a.f("ADDQ R11, BX")
	a.f("SUBQ $32, DX")
	a.f("JMP whole")
	a.label("last")
	a.f("PREFETCHT1 64(AX)") // the next strip of a transposed A begins here
	a.label("vector")
	a.f("CMPQ DX, $8")
	a.f("JLE end")
	a.f("VMOVUPS (AX), Y0")
	a.f("VMOVUPS Y0, (BX)")
	a.f("ADDQ $32, AX")
	a.f("ADDQ $32, BX")
	a.f("SUBQ $8, DX")
	a.f("JMP vector")
	a.label("end")
	a.f("VMASKMOVPS (AX), Y15, Y0")
	a.f("VMOVUPS Y0, (BX)")
	a.f("ADDQ R9, SI")
	a.f("ADDQ R8, DI")
	a.f("DECQ R10")
	a.f("JNE row")
	a.f("VZEROUPPER")
	a.f("RET")
}

// widen256 and narrow256 go between bfloat16 and float32: the upper half of the bits.
func (a *asm) widen256() {
	a.text("func widen256(dst, src unsafe.Pointer, n int)\n"+
		"// dst float32[n], src bfloat16[n]; n is a multiple of 32", "widen256", 24)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ src+8(FP), SI")
	a.f("MOVQ n+16(FP), CX")
	a.label("loop")
	for i := range 4 {
		a.f("VPMOVZXWD %d(SI), Y%d", 16*i, i)
	}
	a.f("PREFETCHT0 1024(SI)")
	for i := range 4 {
		a.f("VPSLLD $16, Y%d, Y%d", i, i)
		a.f("VMOVUPS Y%d, %d(DI)", i, 32*i)
	}
	a.f("ADDQ $64, SI")
	a.f("ADDQ $128, DI")
	a.f("SUBQ $32, CX")
	a.f("JNE loop")
	a.f("VZEROUPPER")
	a.f("RET")

	a.text("func narrow256(dst, src unsafe.Pointer, n int)\n"+
		"// dst bfloat16[n], src float32[n], whose lower halves are dropped; n is a multiple of 32", "narrow256", 24)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ src+8(FP), SI")
	a.f("MOVQ n+16(FP), CX")
	a.label("loop")
	for i := range 4 {
		a.f("VMOVDQU %d(SI), Y%d", 32*i, i)
		a.f("VPSRLD $16, Y%d, Y%d", i, i)
	}
	for i := 0; i < 4; i += 2 {
		a.f("VPACKUSDW Y%d, Y%d, Y%d", i+1, i, i) // the quarters 0, 2, 1, 3
		a.f("VPERMQ $0xd8, Y%d, Y%d", i, i)
		a.f("VMOVDQU Y%d, %d(DI)", i, 16*i)
	}
	a.f("ADDQ $128, SI")
	a.f("ADDQ $64, DI")
	a.f("SUBQ $32, CX")
	a.f("JNE loop")
	a.f("VZEROUPPER")
	a.f("RET")
}
