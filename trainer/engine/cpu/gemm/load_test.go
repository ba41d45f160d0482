package gemm

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// brain returns n random bfloat16 and the same as float32.
func brain(r *rand.Rand, n int) (halves []uint16, values []float32) {
	for range n {
		h := uint16(r.Uint32())&0xbfff | 0x3000 // either sign, magnitudes of 2^-31 to 2
		halves, values = append(halves, h), append(values, math.Float32frombits(uint32(h)<<16))
	}
	return halves, values
}

// A matrix that is loaded, in float32 or bfloat16, gives the products, rows and bits of one that was packed.
func TestLoadedIsPacked(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	pl := pool.New(3)
	defer pl.Close()
	for _, size := range [][2]int{{1, 1}, {31, 33}, {32, 32}, {37, 21}, {100, 385}, {33, 1000}, {576, 576}, {65, 1536}} {
		n, k := size[0], size[1]
		halves, values := brain(r, n*k)
		const m = 29
		x, dy := make([]float32, m*k), make([]float32, m*n)
		for _, s := range [][]float32{x, dy} {
			for i := range s {
				s[i] = r.Float32() - 0.5
			}
		}
		for _, level := range isa.Available() {
			t.Run(fmt.Sprintf("%dx%d/%v", n, k, level), func(t *testing.T) {
				isa.Use(t, level)
				want := Pack(values, n, k)
				for name, source := range map[string]Source{
					"values": {Values: func(dst []float32, first int) error { copy(dst, values[first:]); return nil }},
					"halves": {Halves: func(dst []uint16, first int) error { copy(dst, halves[first:]); return nil }},
				} {
					got, err := Load(pl, n, k, source)
					if err != nil {
						t.Fatal(err)
					}
					a, b := make([]float32, n*k), make([]float32, n*k)
					want.Unpack(a)
					got.Unpack(b)
					if !slices.Equal(a, values) || !slices.Equal(b, values) {
						t.Fatalf("%s: Unpack differs from what was packed", name)
					}
					for direction, product := range map[string]func(p *Packed) []float32{
						"NT": func(p *Packed) []float32 { y := make([]float32, m*n); p.NT(pl, m, x, k, 0, y, n); return y },
						"NN": func(p *Packed) []float32 { y := make([]float32, m*k); p.NN(pl, m, dy, n, 0, y, k); return y },
					} {
						if got, want := product(got), product(want); !slices.Equal(got, want) {
							t.Errorf("%s: %s of a loaded matrix differs from that of a packed one", name, direction)
						}
					}
				}
			})
		}
	}
}

func TestLoadReportsErrors(t *testing.T) {
	broken := errors.New("broken")
	_, err := Load(nil, 100, 50, Source{Values: func(_ []float32, first int) error {
		if first == 64*50 {
			return broken
		}
		return nil
	}})
	if !errors.Is(err, broken) {
		t.Errorf("Load of a broken source = %v, want its error", err)
	}
}
