package trainer

import (
	"context"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// weigher is a Solo that packs every sum as a fleet would send it.
type weigher struct {
	*Solo
	bytes, values int
}

func (w *weigher) Reduce(ctx context.Context, c Closing, sum *fixed.Sum) (*fixed.Sum, error) {
	w.bytes, w.values = w.bytes+len(fixed.Pack(nil, sum.Values)), w.values+len(sum.Values)
	return w.Solo.Reduce(ctx, c, sum)
}

// Sums of real steps of real blocks take at most five bytes a parameter on the wire.
func TestPackedSumsOfSteps(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		model      backbone.Config
	}{
		{"full", contrastive.InfoNCEKind, backbone.Config{Preset: "tiny-causal", Attention: backbone.Causal, Pooling: "last_token"}},
		{"lora", contrastive.InfoNCEKind, backbone.Config{Preset: "tiny-causal", Attention: backbone.Bidirectional, LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8}}},
		{"diffusion", contrastive.MaskedDiffusion, backbone.Config{Preset: "tiny-diffusion"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := seeded(t)
			config := testConfig(c.kind)
			config.Model, config.Steps, config.Optimizer.Schedule.Peak = c.model, 4, 1e-3
			tr := onCPU(t, config, 1, Options{})
			for step := range config.Steps {
				header, shards := stepBatch(seed, c.kind, step)
				w := &weigher{Solo: NewSolo(tr, shards, header.Slots)}
				if _, err := tr.Step(t.Context(), header, step, w); err != nil {
					t.Fatal(err)
				}
				size := float64(w.bytes) / float64(w.values)
				t.Logf("step %d: %d shards, %d parameters, %.2f bytes a parameter", step, len(shards), w.values, size)
				if size > 5 {
					t.Errorf("step %d: %.2f bytes a parameter, want at most 5", step, size)
				}
			}
		})
	}
}
