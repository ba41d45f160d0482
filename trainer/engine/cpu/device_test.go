package cpu_test

import (
	"fmt"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/enginetest"
)

// TestDevice runs the conformance suite on every level of kernels, and on one and two threads.
func TestDevice(t *testing.T) {
	for _, level := range isa.Available() {
		for _, threads := range []int{1, 2} {
			if threads == 1 && level != isa.Best() {
				continue // the pool is the same on every level
			}
			t.Run(fmt.Sprintf("%s/%d", level, threads), func(t *testing.T) {
				isa.Use(t, level)
				enginetest.Run(t, func(t testing.TB) engine.Device {
					dev, err := cpu.New(threads)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(dev.Close)
					return dev
				}, enginetest.Float32)
			})
		}
	}
}
