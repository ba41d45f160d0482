package gemm

import "github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"

// Probe runs n rounds of independent fused multiply-adds in registers at the active level and returns the number of
// floating-point operations, 0 if the level has no such loop. Timed, it is the peak of one core at this moment: the
// figure a rate of Do is compared with.
func Probe(n int) (flop float64) {
	switch isa.Active() {
	case isa.AVX512:
		probe512(n)
		return float64(n) * 24 * 16 * 2
	case isa.AVX2:
		probe256(n)
		return float64(n) * 12 * 8 * 2
	default:
		return 0
	}
}
