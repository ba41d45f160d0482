package cpu

import (
	"runtime"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// An arena is aligned memory of its size, small or large, and a use after Free is told.
func TestArena(t *testing.T) {
	dev, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for _, size := range []int64{0, 1, 4096, 1<<20 - 1, 1 << 20, 5<<20 + 123} {
		m, err := engine.Arena(dev, size)
		if err != nil {
			t.Fatal(err)
		}
		if m.Bytes() != size {
			t.Errorf("Arena(%d).Bytes() = %d", size, m.Bytes())
		}
		whole := engine.Tensor{Rank: 1, Shape: [2]int{int(size / 4)}, Mem: m}
		values := floats(whole)
		for i := range values {
			values[i] = float32(i)
		}
		for i := range values {
			if values[i] != float32(i) {
				t.Fatalf("arena of %d bytes: value %d is %v", size, i, values[i])
			}
		}
		m.Free()
		m.Free()
		if size >= 1<<20 && runtime.GOOS == "linux" {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("an arena of %d bytes is used after Free, and nobody notices", size)
					}
				}()
				floats(whole)
			}()
		}
	}
}
