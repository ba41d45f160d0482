package main

import "math"

func bits(f float64) uint32 { return math.Float32bits(float32(f)) }

// exp replaces register x by exp(x); it uses registers t, p and m (and K2 on AVX-512).
//
//	n = round(x / ln 2), r = x - n ln 2 (in two parts), exp(x) = 2^n (1 + r + r^2 P(r)), |r| <= ln 2 / 2
//
// P is the polynomial of Cephes' expf (Moshier, 1989). Arguments are cut to +-100, where the result is infinite or
// flushed; results below 2^-126 become 0, so that no subnormal number slows what follows; NaN stays.
func (a *asm) exp(x, t, p, m int) {
	lowest := a.word("expLowest", bits(-126*math.Ln2))
	if a.wide {
		a.op("VCMPPS", "$5", lowest, x, "K2") // not less than: also when unordered
	} else {
		a.op("VCMPPS", "$5", lowest, x, m)
	}
	// The second source of MIN and MAX is what a NaN gives.
	a.op("VMOVUPS", a.word("expHigh", bits(100)), t)
	a.op("VMINPS", x, t, x)
	a.op("VMOVUPS", a.word("expLow", bits(-100)), t)
	a.op("VMAXPS", x, t, x)
	a.op("VMULPS", a.word("expLog2e", bits(math.Log2E)), x, t)
	if a.wide {
		a.op("VRNDSCALEPS", "$8", t, t)
	} else {
		a.op("VROUNDPS", "$8", t, t)
	}
	a.op("VFNMADD231PS", a.word("expLn2Hi", bits(0.693359375)), t, x)
	a.op("VFNMADD231PS", a.word("expLn2Lo", bits(-2.12194440e-4)), t, x)
	a.op("VMOVUPS", a.word("expP5", bits(1.9875691500e-4)), p)
	for _, c := range []struct {
		name string
		f    float64
	}{
		{"expP4", 1.3981999507e-3},
		{"expP3", 8.3334519073e-3},
		{"expP2", 4.1665795894e-2},
		{"expP1", 1.6666665459e-1},
		{"expP0", 5.0000001201e-1},
		{"expOne", 1},
		{"expOne", 1},
	} {
		a.op("VFMADD213PS", a.word(c.name, bits(c.f)), x, p)
	}
	if a.wide {
		a.op("VSCALEFPS.Z", t, p, "K2", x)
		return
	}
	// 2^n in two factors, so that n = 128 does not overflow before the product does.
	a.op("VCVTPS2DQ", t, t)
	a.op("VPSRAD", "$1", t, x)
	a.op("VPSUBD", x, t, t)
	bias := a.word("expBias", 127)
	for _, r := range []int{x, t} {
		a.op("VPADDD", bias, r, r)
		a.op("VPSLLD", "$23", r, r)
	}
	a.op("VMULPS", x, p, x)
	a.op("VMULPS", t, x, x)
	a.op("VANDPS", m, x, x)
}

// sigmoid replaces x by 1 / (1 + exp(-x)).
func (a *asm) sigmoid(x, t, p, m int) {
	a.op("VXORPS", a.word("signBit", 1<<31), x, x)
	a.exp(x, t, p, m)
	a.op("VMOVUPS", a.word("expOne", bits(1)), t)
	a.op("VADDPS", t, x, x)
	a.op("VDIVPS", x, t, x)
}
