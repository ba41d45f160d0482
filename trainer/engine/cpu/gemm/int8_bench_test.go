//go:build linux

package gemm

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// BenchmarkInt8 prints the rate of int8 products and its share of the float32 peak (VNNI's own is 400 %).
func BenchmarkInt8(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range [][3]int{{512, 576, 576}, {512, 3072, 576}, {512, 576, 1536}, {512, 4864, 896}, {512, 896, 4864}, {1024, 1536, 384}} {
		m, n, k := s[0], s[1], s[2]
		x, q := random(r, m*k, 0), PackInt8(random(r, n*k, 0), n, k)
		y, scratch := make([]float32, m*n), make([]byte, q.Scratch(m))
		for _, threads := range []int{1, 2} {
			p := pool.New(threads)
			b.Run(fmt.Sprintf("m%d_n%d_k%d/%d", m, n, k, threads), func(b *testing.B) {
				measure(b, p, 2*float64(m)*float64(n)*float64(k), func() { q.NT(p, m, x, k, nil, false, y, n, scratch) })
			})
			p.Close()
		}
	}
}
