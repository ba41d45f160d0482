package cpu

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// A matrix that an 8-bit device has loaded, or that was uploaded to it, takes a quarter of its float32 values and serves
// products with bias, base and adapters, and rows; there are no gradients, and the numerics id is another.
func TestInt8Device(t *testing.T) {
	exact, err := New(2)
	if err != nil {
		t.Fatal(err)
	}
	defer exact.Close()
	dev, err := NewInt8(2)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if id := dev.Numerics(); id == exact.Numerics() || !strings.HasPrefix(id, exact.Numerics()) {
		t.Errorf("Numerics() = %q, want %q and more", id, exact.Numerics())
	}
	const n, k, rows, seed = 96, 160, 7, 5
	r := rand.New(rand.NewPCG(seed, 1))
	upload := func(frozen bool, shape ...int) engine.Tensor {
		size := 1
		for _, d := range shape {
			size *= d
		}
		values := make([]float32, size)
		for i := range values {
			values[i] = float32(r.NormFloat64())
		}
		x, err := engine.Upload(dev, values, frozen, shape...)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	uploaded, x, bias, base := upload(true, n, k), upload(false, rows, k), upload(true, n), upload(false, rows, n)
	w := append([]float32(nil), floats(uploaded)...)
	loaded, err := engine.Load(dev, values(w), engine.Product, n, k)
	if err != nil {
		t.Fatal(err)
	}
	q := gemm.PackInt8(w, n, k)
	want := append([]float32(nil), floats(base)...)
	q.NT(nil, rows, floats(x), k, floats(bias), true, want, n, make([]byte, q.Scratch(rows)))
	for name, matrix := range map[string]engine.Tensor{"loaded": loaded, "uploaded": uploaded} {
		out := upload(false, rows, n)
		in := []engine.Tensor{x, matrix, bias}
		kernel, err := dev.Kernel(ops.Linear{Bias: true, Frozen: true}, in, out)
		if err != nil {
			t.Fatal(err)
		}
		call := &engine.Call{In: in, Out: out, Base: base}
		call.Scratch = upload(false, int(kernel.Scratch(call)/4))
		if err := kernel.Run(call); err != nil {
			t.Fatal(err)
		}
		for i, v := range floats(out) {
			if v != want[i] {
				t.Fatalf("%s: Linear[%d] = %v, want %v", name, i, v, want[i])
			}
		}
		if got := matrix.Mem.(*memory).resident(); got > 4*n*k*29/100 {
			t.Errorf("%s: a matrix of %d float32 bytes takes %d, want a quarter and its scales", name, 4*n*k, got)
		}
		ids := engine.Tensor{Type: engine.Int32, Rank: 1, Shape: [2]int{3}}
		if ids.Mem, err = dev.Alloc(ids.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := dev.Write(ids, engine.Bytes([]int32{95, 0, 33})); err != nil {
			t.Fatal(err)
		}
		row, table := make([]float32, k), upload(false, 3, k)
		dev.gather(table, matrix, ints(ids))
		for i, id := range []int{95, 0, 33} {
			q.Row(id, row)
			for j := range row {
				if got := floats(table)[i*k+j]; got != row[j] {
					t.Fatalf("%s: row %d, value %d = %v, want %v", name, id, j, got, row[j])
				}
			}
		}
	}
	if _, err := dev.Kernel(ops.LinearGradX{}, []engine.Tensor{base, loaded}, x); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("LinearGradX on %s: %v, want %v", dev.Name(), err, engine.ErrUnsupported)
	}
}

// values are a source in memory.
type values []float32

func (v values) Half() bool                            { return false }
func (v values) Values(dst []float32, first int) error { copy(dst, v[first:]); return nil }
func (v values) Halves(_ []uint16, _ int) error        { return errors.New("float32") }
