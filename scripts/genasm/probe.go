package main

import "fmt"

// probe is the fused multiply-add loops whose rate is the peak of the machine: 24 and 12 independent chains.
func probe() string {
	a := newFile()
	for _, c := range []struct {
		name, reg string
		chains    int
	}{{"probe512", "Z", 24}, {"probe256", "Y", 12}} {
		a.text(fmt.Sprintf("func %s(n int)\n// n rounds of %d independent fused multiply-adds", c.name, c.chains), c.name, 8)
		a.f("MOVQ n+0(FP), AX")
		xor := "VPXORQ"
		if c.reg == "Y" {
			xor = "VXORPS"
		}
		for i := range c.chains + 2 {
			r := fmt.Sprintf("%s%d", c.reg, i)
			a.f("%s %s, %s, %s", xor, r, r, r)
		}
		a.f("PCALIGN $32")
		a.label("loop")
		for i := range c.chains {
			a.f("VFMADD231PS %s0, %s1, %s%d", c.reg, c.reg, c.reg, i+2)
		}
		a.f("DECQ AX")
		a.f("JNE loop")
		a.f("VZEROUPPER")
		a.f("RET")
	}
	return a.String()
}
