package hub_test

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data/golden"
)

// mergedTolerance is that of the goldens' README.
const mergedTolerance = 1e-6

// TestGoldenMerge merges every adapter that comes with PEFT's own merged weights.
func TestGoldenMerge(t *testing.T) {
	golden.Dir(t, "backbones")
	folders, err := filepath.Glob(filepath.Join(golden.Dir(t, "lora"), "*", "merged.safetensors"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no merged weights: %v", err)
	}
	for _, path := range folders {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			merged := mergedFolder(t, dir)
			want, err := safetensors.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer want.Close()
			worst := 0.0
			for _, name := range want.Names() {
				expected, err := want.Float32(nil, name)
				if err != nil {
					t.Fatal(err)
				}
				own := "model." + name
				got, err := merged.Float32(nil, own)
				if err != nil {
					t.Fatal(err)
				}
				before, err := merged.Tensors.Float32(nil, own)
				if err != nil {
					t.Fatal(err)
				}
				if !merged.Adapted(own) || difference(before, expected) < 1e-3 {
					t.Errorf("%s: the adapter moves it by %g only", name, difference(before, expected))
				}
				worst = max(worst, difference(got, expected))
			}
			if worst > mergedTolerance {
				t.Errorf("merged weights differ by %g, want at most %g", worst, mergedTolerance)
			}
			t.Logf("%d matrices, largest difference %.2g", len(want.Names()), worst)
		})
	}
}

func difference(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range a {
		if d := math.Abs(float64(a[i]) - float64(b[i])); !(d <= worst) {
			worst = d
		}
	}
	return worst
}

// mergedFolder opens an adapter over the base that it names, which in the repository's copy is another golden set.
func mergedFolder(t *testing.T, dir string) *hub.Merged {
	t.Helper()
	a, err := hub.OpenAdapter(dir)
	if err != nil {
		t.Fatal(err)
	}
	base, err := a.BaseFolder()
	if err != nil {
		base = filepath.Join(golden.Dir(t, "backbones"), filepath.Base(a.Base))
	}
	weights, err := safetensors.OpenFolder(base)
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Over(weights)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}
