package main

import "fmt"

// philox writes random: blocks c0, c0+1, ... of Philox4x32-10, lanes blocks at a time, in the order of their counters.
//
// Lane l computes block 4*(l mod 4) + l/4 of 16 (2*(l mod 4) + l/4 of 8): the transpose of the four output words within
// groups of four lanes then leaves consecutive blocks in each vector.
func philox(a *asm) {
	w := a.lanes()
	order := make([]uint32, w)
	for l := range order {
		order[l] = uint32(w/4*(l%4) + l/4)
	}
	a.tables = append(a.tables, table{"laneBlock", order})
	move := "VMOVDQA"
	if a.wide {
		move = "VMOVDQA32"
	}
	f := a.begin("random", "dst *uint32; n int; key, counter *uint32", "")
	a.op("MOVQ", f["dst"], "DI")
	a.op("MOVQ", f["n"], "CX")
	a.op("MOVQ", f["key"], "SI")
	a.op("MOVQ", f["counter"], "R8")
	const c0, c1, c2, c3, k0, k1 = 0, 1, 2, 3, 4, 5
	const t0, t1, t2, t3, base = 6, 7, 8, 9, 10
	a.op("VPBROADCASTD", "(R8)", base)
	a.op("VMOVUPS", "laneBlock<>(SB)", t0)
	a.op("VPADDD", t0, base, base)
	m0, m1 := a.word64("philoxM0", 0xD2511F53), a.word64("philoxM1", 0xCD9E8D57)
	w0, w1 := a.word("philoxW0", 0x9E3779B9), a.word("philoxW1", 0xBB67AE85)
	if a.wide {
		a.op("MOVL", "$0xaaaa", "AX")
		a.op("KMOVW", "AX", "K2")
	}
	xor := "VPXOR"
	if a.wide {
		xor = "VPXORD"
	}
	blend := func(odd, even, dst int) {
		if a.wide {
			a.op("VPBLENDMD", odd, even, "K2", dst)
		} else {
			a.op("VPBLENDD", "$0xaa", odd, even, dst)
		}
	}
	// product sets hi, lo to the halves of c * m; t is clobbered.
	product := func(c int, m string, hi, lo, t int) {
		a.op("VPSRLQ", "$32", c, t)
		a.op("VPMULUDQ", m, t, t)  // odd lanes
		a.op("VPMULUDQ", m, c, lo) // even lanes
		a.op("VPSRLQ", "$32", lo, hi)
		blend(t, hi, hi)
		a.op("VPSLLQ", "$32", t, t)
		blend(t, lo, lo)
	}
	next := a.fresh("next")
	a.label(next)
	a.op(move, base, c0)
	for i := range 3 {
		a.op("VPBROADCASTD", fmt.Sprintf("%d(R8)", 4*i+4), c1+i)
	}
	a.op("VPBROADCASTD", "(SI)", k0)
	a.op("VPBROADCASTD", "4(SI)", k1)
	for round := range 10 {
		if round > 0 {
			a.op("VPADDD", w0, k0, k0)
			a.op("VPADDD", w1, k1, k1)
		}
		product(c0, m0, t0, t1, 11) // t0 = hi0, t1 = lo0
		product(c2, m1, t2, t3, 11) // t2 = hi1, t3 = lo1
		a.op(xor, t2, c1, c0)
		a.op(xor, k0, c0, c0)
		a.op(xor, t0, c3, c2)
		a.op(xor, k1, c2, c2)
		a.op(move, t3, c1)
		a.op(move, t1, c3)
	}
	a.op("VPUNPCKLDQ", c1, c0, t0)
	a.op("VPUNPCKHDQ", c1, c0, t1)
	a.op("VPUNPCKLDQ", c3, c2, t2)
	a.op("VPUNPCKHDQ", c3, c2, t3)
	a.op("VPUNPCKLQDQ", t2, t0, c0)
	a.op("VPUNPCKHQDQ", t2, t0, c1)
	a.op("VPUNPCKLQDQ", t3, t1, c2)
	a.op("VPUNPCKHQDQ", t3, t1, c3)
	for i := range 4 {
		a.op("VMOVUPS", c0+i, fmt.Sprintf("%d(DI)", i*a.bytes()))
	}
	a.op("VPADDD", a.word("laneCount", uint32(w)), base, base)
	a.op("ADDQ", fmt.Sprintf("$%d", 4*a.bytes()), "DI")
	a.op("SUBQ", fmt.Sprintf("$%d", 4*w), "CX")
	a.op("JNE", next)
	a.end()
}
