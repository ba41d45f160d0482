package cpu

import (
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// TestFrozenMatrixLiesInMemoryOnce checks that a product gives the rows up, and that who reads them still gets them.
func TestFrozenMatrixLiesInMemoryOnce(t *testing.T) {
	dev, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	const n, k = 37, 21
	values := make([]float32, n*k)
	for i := range values {
		values[i] = float32(i) / 7
	}
	w, err := engine.Upload(dev, values, true, n, k)
	if err != nil {
		t.Fatal(err)
	}
	x := engine.Tensor{Rank: 2, Shape: [2]int{3, k}}
	if _, err := dev.Kernel(ops.Linear{Frozen: true}, []engine.Tensor{x, w}, engine.Tensor{Rank: 2, Shape: [2]int{3, n}}); err != nil {
		t.Fatal(err)
	}
	if w.Mem.(*memory).bytes.Load() != nil {
		t.Error("the rows are kept beside the packed form")
	}
	got, err := engine.Values(dev, w)
	if err != nil {
		t.Fatal(err)
	}
	for i := range values {
		if got[i] != values[i] {
			t.Fatalf("value %d = %v after unpacking, want %v", i, got[i], values[i])
		}
	}
	if first, second := packedOf(w), packedOf(w); first != second {
		t.Error("the matrix is packed twice")
	}
}
