package main

// pack512 is the packing of panels under AVX-512.
func pack512() string {
	a := newFile()
	a.transpose512()
	a.copy512()
	a.strips512()
	a.widen512()
	return a.String()
}

// transpose512 turns blocks of 16 rows x 16 columns. Rows from w on repeat row w-1, so nothing outside is read; all 16
// lanes of each row of dst are stored, so dst needs room for 16 floats there (a later row may overwrite the excess).
func (a *asm) transpose512() {
	a.text("func transpose512(dst unsafe.Pointer, ldd int, src unsafe.Pointer, lds, k, w int)\n"+
		"// dst[p][i] = src[min(i, w-1)][p] for i < 16, p < k; strides in bytes", "transpose512", 48)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ ldd+8(FP), R8")
	a.f("MOVQ src+16(FP), SI")
	a.f("MOVQ lds+24(FP), R9")
	a.f("MOVQ k+32(FP), R10")
	a.f("MOVQ w+40(FP), R11")
	a.f("MOVL $0xffff, AX")
	a.f("KMOVW AX, K1")
	a.label("block")
	a.f("CMPQ R10, $16")
	a.f("JGE full")
	a.f("MOVQ R10, CX") // last columns
	a.f("MOVL $1, AX")
	a.f("SHLL CX, AX")
	a.f("DECL AX")
	a.f("KMOVW AX, K1")
	a.label("full")
	a.f("MOVQ SI, AX")
	a.f("MOVQ $1, CX")
	for i := range 16 {
		a.f("VMOVUPS.Z (AX), K1, Z%d", i)
		if i < 15 {
			a.f("XORL DX, DX") // step to the next row if there is one
			a.f("CMPQ R11, $%d", i+1)
			a.f("CMOVQGT R9, DX")
			a.f("ADDQ DX, AX")
		}
	}
	// The usual four rounds of exchanges: 1, 2, 4, 8 apart.
	for i := 0; i < 16; i += 2 {
		a.f("VUNPCKLPS Z%d, Z%d, Z%d", i+1, i, 16+i)
		a.f("VUNPCKHPS Z%d, Z%d, Z%d", i+1, i, 17+i)
	}
	for i := 0; i < 16; i += 4 {
		a.f("VUNPCKLPD Z%d, Z%d, Z%d", 18+i, 16+i, i)
		a.f("VUNPCKHPD Z%d, Z%d, Z%d", 18+i, 16+i, i+1)
		a.f("VUNPCKLPD Z%d, Z%d, Z%d", 19+i, 17+i, i+2)
		a.f("VUNPCKHPD Z%d, Z%d, Z%d", 19+i, 17+i, i+3)
	}
	// Z[4g+q] holds column q of each lane's four columns, rows 4g..4g+3: gather the lanes of one column.
	for q := range 4 {
		a.f("VSHUFF32X4 $0x88, Z%d, Z%d, Z%d", 4+q, q, 16+q)
		a.f("VSHUFF32X4 $0xdd, Z%d, Z%d, Z%d", 4+q, q, 20+q)
		a.f("VSHUFF32X4 $0x88, Z%d, Z%d, Z%d", 12+q, 8+q, 24+q)
		a.f("VSHUFF32X4 $0xdd, Z%d, Z%d, Z%d", 12+q, 8+q, 28+q)
	}
	for q := range 4 {
		a.f("VSHUFF32X4 $0x88, Z%d, Z%d, Z%d", 24+q, 16+q, q)
		a.f("VSHUFF32X4 $0xdd, Z%d, Z%d, Z%d", 24+q, 16+q, 8+q)
		a.f("VSHUFF32X4 $0x88, Z%d, Z%d, Z%d", 28+q, 20+q, 4+q)
		a.f("VSHUFF32X4 $0xdd, Z%d, Z%d, Z%d", 28+q, 20+q, 12+q)
	}
	a.f("CMPQ R10, $16")
	a.f("JLT partial")
	for i := range 16 {
		a.f("VMOVUPS Z%d, (DI)", i)
		a.f("ADDQ R8, DI")
	}
	a.f("ADDQ $64, SI")
	a.f("SUBQ $16, R10")
	a.f("JNE block")
	a.f("VZEROUPPER")
	a.f("RET")
	a.label("partial")
	for i := range 15 {
		a.f("VMOVUPS Z%d, (DI)", i)
		if i < 14 {
			a.f("ADDQ R8, DI")
			a.f("DECQ R10")
			a.f("JEQ done")
		}
	}
	a.label("done")
	a.f("VZEROUPPER")
	a.f("RET")
}

// copy512 copies rows into panels of 32 columns: a row at a time, because rows are what memory delivers in order. Whole
// vectors are stored (16 floats of the last panel if 16 or fewer are left, else 32).
func (a *asm) copy512() {
	a.text("func copy512(dst unsafe.Pointer, ldd, step int, src unsafe.Pointer, lds, k, n int)\n"+
		"// (dst + j/32*step)[p][j%32] = src[p][j], 0 from n on; ldd, step and lds in bytes", "copy512", 56)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ ldd+8(FP), R8")
	a.f("MOVQ step+16(FP), R11")
	a.f("MOVQ src+24(FP), SI")
	a.f("MOVQ lds+32(FP), R9")
	a.f("MOVQ k+40(FP), R10")
	a.f("MOVQ n+48(FP), R12")
	a.f("MOVQ R12, CX") // masks of the last panel, of 1 to 32 columns
	a.f("DECQ CX")
	a.f("ANDQ $31, CX")
	a.f("INCQ CX")
	a.f("MOVQ $1, AX")
	a.f("SHLQ CX, AX")
	a.f("DECQ AX")
	a.f("KMOVW AX, K1")
	a.f("SHRQ $16, AX")
	a.f("KMOVW AX, K2")
	a.label("row")
	a.f("MOVQ SI, AX")
	a.f("MOVQ DI, BX")
	a.f("MOVQ R12, DX")
	a.f("SUBQ $32, DX")
	a.f("JLE last")
	a.label("whole")
	a.f("VMOVUPS (AX), Z0")
	a.f("VMOVUPS 64(AX), Z1")
	a.f("VMOVUPS Z0, (BX)")
	a.f("VMOVUPS Z1, 64(BX)")
	a.f("ADDQ $128, AX")
	a.f("ADDQ R11, BX")
	a.f("SUBQ $32, DX")
	a.f("JGT whole")
	a.label("last")
	a.f("PREFETCHT1 64(AX)") // the next strip of a transposed A begins here
	a.f("VMOVUPS.Z (AX), K1, Z0")
	a.f("VMOVUPS Z0, (BX)")
	a.f("CMPQ CX, $16")
	a.f("JLE next")
	a.f("VMOVUPS.Z 64(AX), K2, Z1")
	a.f("VMOVUPS Z1, 64(BX)")
	a.label("next")
	a.f("ADDQ R9, SI")
	a.f("ADDQ R8, DI")
	a.f("DECQ R10")
	a.f("JNE row")
	a.f("VZEROUPPER")
	a.f("RET")
}

// strips512 copies rows into strips of 12 columns, several at once: a row's columns lie in few cache lines, and the rows
// of a large matrix in as many pages. Every store is of 16 floats: the next row, or the gap before the next strip, takes
// the excess.
func (a *asm) strips512() {
	a.text("func strips512(dst unsafe.Pointer, step int, src unsafe.Pointer, lds, k, n, before, last int)\n"+
		"// (dst + j/12*step)[p][j%12] = src[p][j] of n strips; step and lds in bytes; before and last are the columns\n"+
		"// that may be loaded for the last two strips, as masks", "strips512", 64)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ step+8(FP), R11")
	a.f("MOVQ src+16(FP), SI")
	a.f("MOVQ lds+24(FP), R9")
	a.f("MOVQ k+32(FP), R10")
	a.f("MOVQ n+40(FP), R12")
	a.f("MOVQ before+48(FP), AX")
	a.f("KMOVW AX, K2")
	a.f("MOVQ last+56(FP), AX")
	a.f("KMOVW AX, K1")
	a.f("LEAQ (R9*8), R13") // prefetched: eight rows ahead
	a.label("row")
	a.f("MOVQ SI, AX")
	a.f("MOVQ DI, BX")
	a.f("MOVQ R12, DX")
	a.f("SUBQ $2, DX")
	a.f("JLT last")
	a.f("JEQ before")
	a.label("whole")
	a.f("PREFETCHT0 (AX)(R13*1)")
	a.f("VMOVUPS (AX), Z0")
	a.f("VMOVUPS Z0, (BX)")
	a.f("ADDQ $48, AX")
	a.f("ADDQ R11, BX")
	a.f("DECQ DX")
	a.f("JNE whole")
	a.label("before")
	a.f("PREFETCHT0 (AX)(R13*1)")
	a.f("VMOVUPS.Z (AX), K2, Z0")
	a.f("VMOVUPS Z0, (BX)")
	a.f("ADDQ $48, AX")
	a.f("ADDQ R11, BX")
	a.label("last")
	a.f("PREFETCHT0 (AX)(R13*1)")
	a.f("VMOVUPS.Z (AX), K1, Z0")
	a.f("VMOVUPS Z0, (BX)")
	a.f("ADDQ R9, SI")
	a.f("ADDQ $48, DI")
	a.f("DECQ R10")
	a.f("JNE row")
	a.f("VZEROUPPER")
	a.f("RET")
}

// widen512 and narrow512 go between bfloat16 and float32: the upper half of the bits.
func (a *asm) widen512() {
	a.text("func widen512(dst, src unsafe.Pointer, n int)\n"+
		"// dst float32[n], src bfloat16[n]; n is a multiple of 32", "widen512", 24)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ src+8(FP), SI")
	a.f("MOVQ n+16(FP), CX")
	a.label("loop")
	for i := range 2 {
		a.f("VPMOVZXWD %d(SI), Z%d", 32*i, i)
	}
	a.f("PREFETCHT0 1024(SI)")
	for i := range 2 {
		a.f("VPSLLD $16, Z%d, Z%d", i, i)
		a.f("VMOVUPS Z%d, %d(DI)", i, 64*i)
	}
	a.f("ADDQ $64, SI")
	a.f("ADDQ $128, DI")
	a.f("SUBQ $32, CX")
	a.f("JNE loop")
	a.f("VZEROUPPER")
	a.f("RET")

	a.text("func narrow512(dst, src unsafe.Pointer, n int)\n"+
		"// dst bfloat16[n], src float32[n], whose lower halves are dropped; n is a multiple of 32", "narrow512", 24)
	a.f("MOVQ dst+0(FP), DI")
	a.f("MOVQ src+8(FP), SI")
	a.f("MOVQ n+16(FP), CX")
	a.label("loop")
	for i := range 2 {
		a.f("VPSRLD $16, %d(SI), Z%d", 64*i, i)
		a.f("VPMOVDW Z%d, %d(DI)", i, 32*i)
	}
	a.f("ADDQ $128, SI")
	a.f("ADDQ $64, DI")
	a.f("SUBQ $32, CX")
	a.f("JNE loop")
	a.f("VZEROUPPER")
	a.f("RET")
}
