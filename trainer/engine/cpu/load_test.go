package cpu

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// halves is a source of bfloat16 values, which may hide what it is.
type halves struct {
	values []uint16
	half   bool
}

func (h halves) Half() bool { return h.half }

func (h halves) Values(dst []float32, first int) error {
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(h.values[first+i]) << 16)
	}
	return nil
}

func (h halves) Halves(dst []uint16, first int) error {
	if !h.half {
		return errors.New("not bfloat16")
	}
	copy(dst, h.values[first:])
	return nil
}

// A loaded tensor serves as an uploaded one, whatever its form: as a table, in a product, as both, and read back.
func TestLoadedServesAsUploaded(t *testing.T) {
	dev, err := New(2)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	const n, k, rows = 300, 401, 7
	source := halves{values: make([]uint16, n*k)}
	for i := range source.values {
		source.values[i] = uint16(r.Uint32())&0xbfff | 0x3000
	}
	plain := make([]float32, n*k)
	if err := source.Values(plain, 0); err != nil {
		t.Fatal(err)
	}
	uploaded, err := engine.Upload(dev, plain, true, n, k)
	if err != nil {
		t.Fatal(err)
	}
	host := func(shape ...int) engine.Tensor {
		values := make([]float32, shape[0]*shape[1])
		for i := range values {
			values[i] = r.Float32() - 0.5
		}
		x, err := engine.Upload(dev, values, false, shape...)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	x, y, z := host(rows, k), host(rows, n), host(rows, k)
	ids := engine.Tensor{Type: engine.Int32, Rank: 1, Shape: [2]int{rows}}
	if ids.Mem, err = dev.Alloc(ids.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := dev.Write(ids, engine.Bytes([]int32{0, 299, 31, 32, 32, 1, 250})); err != nil {
		t.Fatal(err)
	}
	compute := func(spec ops.Spec, out engine.Tensor, in ...engine.Tensor) []float32 {
		t.Helper()
		kernel, err := dev.Kernel(spec, in, out)
		if err != nil {
			t.Fatal(err)
		}
		if err := kernel.Run(&engine.Call{In: in, Out: out}); err != nil {
			t.Fatal(err)
		}
		return slices.Clone(floats(out))
	}
	steps := map[string]func(w engine.Tensor) []float32{
		"rows":    func(w engine.Tensor) []float32 { return compute(ops.Embed{Frozen: true}, z, ids, w) },
		"product": func(w engine.Tensor) []float32 { return compute(ops.Linear{Frozen: true}, y, x, w) },
		"all":     func(w engine.Tensor) []float32 { return floats(w) },
	}
	for _, half := range []bool{false, true} {
		for _, use := range []engine.Use{engine.Rows, engine.Product} {
			for _, order := range [][]string{{"rows", "product", "rows"}, {"product", "rows", "product"}, {"rows", "all", "product", "rows"}, {"all", "product", "all"}} {
				t.Run(fmt.Sprintf("half %v/use %d/%v", half, use, order), func(t *testing.T) {
					source.half = half
					w, err := engine.Load(dev, source, use, n, k)
					if err != nil {
						t.Fatal(err)
					}
					for _, step := range order {
						if got, want := steps[step](w), steps[step](uploaded); !slices.Equal(got, want) {
							t.Errorf("%s differs from that of an uploaded matrix", step)
						}
					}
				})
			}
		}
		source.half = half
		v, err := engine.Load(dev, source, engine.Rows, n*k)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(floats(v), plain) {
			t.Error("a loaded vector differs from its source")
		}
	}
}

// A matrix in bfloat16 takes half of its float32, in whatever use.
func TestLoadedHalvesTakeHalf(t *testing.T) {
	dev, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	const n, k = 64, 96
	source := halves{values: make([]uint16, n*k), half: true}
	for _, use := range []engine.Use{engine.Rows, engine.Product} {
		w, err := engine.Load(dev, source, use, n, k)
		if err != nil {
			t.Fatal(err)
		}
		m := w.Mem.(*memory)
		if got := m.resident(); got != 2*n*k {
			t.Errorf("use %d: %d bytes are resident, want %d", use, got, 2*n*k)
		}
		packedOf(w)
		if got := m.resident(); got != 2*n*k {
			t.Errorf("use %d: %d bytes are resident when packed, want %d", use, got, 2*n*k)
		}
	}
}
