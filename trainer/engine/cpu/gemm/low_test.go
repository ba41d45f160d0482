package gemm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// TestLowIsNTAndDo compares bits over parts that begin and end anywhere in tiles and panels.
func TestLowIsNTAndDo(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 9))
		for _, sh := range []struct {
			m, n, k int
			lows    []Low
		}{
			{5, 40, 7, []Low{{Offset: 3, Width: 37, Rank: 2, Alpha: 0.5}}},
			{213, 1100, 70, []Low{{0, 300, 16, 2, nil, 0, nil}, {300, 111, 5, 1, nil, 0, nil}, {700, 400, 16, -1, nil, 0, nil}}},
			{130, 1024, 800, []Low{{0, 1024, 33, 1, nil, 0, nil}}},
		} {
			w, x, y := newMatrix(sh.n, sh.k, 0, r), newMatrix(sh.m, sh.k, 3, r), newMatrix(sh.m, sh.n, 0, r)
			p := Pack(w.s, sh.n, sh.k)
			want := slices.Clone(y.s)
			p.NT(nil, sh.m, x.s, x.ld, 0.5, want, sh.n)
			for i := range sh.lows {
				l := &sh.lows[i]
				h, b := newMatrix(sh.m, l.Rank, 11, r), newMatrix(l.Width, l.Rank, 0, r)
				l.H, l.LDH, l.B = h.s, h.ld, b.s
				Do(nil, false, true, sh.m, l.Width, l.Rank, l.Alpha, h.s, h.ld, b.s, l.Rank, 1, want[l.Offset:], sh.n)
			}
			for threads := 1; threads <= 3; threads++ {
				pl := pool.New(threads)
				got := slices.Clone(y.s)
				p.NTLow(pl, sh.m, x.s, x.ld, 0.5, got, sh.n, sh.lows)
				pl.Close()
				sameBits(t, fmt.Sprintf("%dx%dx%d, %d threads", sh.m, sh.n, sh.k, threads), got, want)
			}
		}
	})
}
