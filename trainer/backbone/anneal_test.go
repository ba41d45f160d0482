package backbone_test

import (
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// TestGoldenAnnealed: an annealed mask is the causal one (with its window) while nothing is open, the bidirectional one at
// the end and in evaluation, and another one at every step between.
func TestGoldenAnnealed(t *testing.T) {
	const steps = 1000 // 256 (s+1) / steps is 0 at step 0
	files, err := filepath.Glob(filepath.Join(golden.Dir(t, "backbones"), "*", "expected.safetensors"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d families: %v", len(files), err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			want := open(t, file)
			causal, open := want.floats("hidden.causal"), want.floats("hidden.bidirectional")
			m := model(t, device(t, 2), backbone.Config{Path: dir, Attention: backbone.Annealed, AnnealSteps: steps}, backbone.Options{Frozen: true, Seed: 3})
			at := func(step int64, training bool) []float32 {
				t.Helper()
				h, err := m.Hidden(backbone.Batch{Texts: texts(want.ints("input_ids"), want.ints("cu_seqlens")), Step: step, Training: training})
				if err != nil {
					t.Fatal(err)
				}
				return h
			}
			compare(t, "step 0", at(0, true), causal, stateTolerance)
			compare(t, "last step", at(steps-1, true), open, stateTolerance)
			compare(t, "a later step", at(5*steps, true), open, stateTolerance)
			compare(t, "evaluation at step 0", at(0, false), open, stateTolerance)
			half := at(steps/2, true)
			for name, other := range map[string][]float32{"causal": causal, "bidirectional": open, "the next step's": at(steps/2+1, true)} {
				if d := largestDifference(half, other); d < 0.1 {
					t.Errorf("half open: states differ from %s by %g only", name, d)
				}
			}
		})
	}
}

func TestAnnealedRefused(t *testing.T) {
	for _, c := range []backbone.Config{
		{Preset: "tiny-causal", Attention: backbone.Annealed},
		{Preset: "tiny-causal", Attention: backbone.Causal, AnnealSteps: 5},
		{Preset: "tiny-causal", EvalAttention: backbone.Annealed},
	} {
		base, err := backbone.Load(c, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := backbone.New(base, device(t, 1), c, backbone.Options{}); err == nil {
			t.Errorf("New(%+v) has no error", c)
		}
	}
}
