package coordinator

import "testing"

func TestSuits(t *testing.T) {
	for _, c := range []struct {
		numerics, kernels string
		want              bool
	}{
		{"cpu/1/avx512", "", true},
		{"cpu/1/avx512", "avx512", true},
		{"cpu/1/avx512", "avx2", false},
		{"cpu/1/avx2", "avx512", false},
		{"cuda/1/h200", "avx2", true},
	} {
		if got := suits(c.numerics, c.kernels); got != c.want {
			t.Errorf("suits(%q, %q) = %v, want %v", c.numerics, c.kernels, got, c.want)
		}
	}
}
