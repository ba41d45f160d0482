package trainer

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
)

// The same promise with real backbones, dropout on: threads, kept activations and a fleet of three do not show.
func TestBackbonesDoNotShowTheFleet(t *testing.T) {
	qwen := filepath.Join(golden.Dir(t, "backbones"), "qwen2")
	lora := &backbone.LoRAConfig{Rank: 4, Alpha: 8, Dropout: 0.2}
	patterns := &backbone.LoRAConfig{Rank: 4, Alpha: 8, RankPattern: map[string]int{"q_proj": 2}, AlphaPattern: map[string]float64{"layers.0.mlp.up_proj": 3}}
	margin, underscore := 0.1, int32(62)
	for _, c := range []struct {
		name, kind string
		model      backbone.Config
		loss       func(*contrastive.Config)
	}{
		{"lora", contrastive.InfoNCEKind, backbone.Config{Path: qwen, Attention: backbone.Bidirectional, LoRA: lora}, nil},
		{"full", contrastive.InfoNCEKind, backbone.Config{Path: qwen, Attention: backbone.Causal, Pooling: "last_token"}, nil},
		{"annealed, patterns, matryoshka, margin", contrastive.InfoNCEKind, backbone.Config{Path: qwen, Attention: backbone.Annealed, AnnealSteps: 4, LoRA: patterns}, func(l *contrastive.Config) {
			l.Matryoshka, l.MatryoshkaWeights, l.MaskMargin = []int{64, 16, 32}, []float64{1, 0.5, 0.25}, &margin
		}},
		{"explicit", contrastive.ExplicitKind, backbone.Config{Path: qwen, Attention: backbone.Causal, Pooling: "last_token", LoRA: lora}, nil},
		{"diffusion", contrastive.MaskedDiffusion, backbone.Config{Preset: "tiny-diffusion"}, nil},
		{"annealed diffusion", contrastive.MaskedDiffusion, backbone.Config{Preset: "tiny-diffusion", Attention: backbone.Annealed, AnnealSteps: 3}, func(l *contrastive.Config) { l.Shift = true }},
		{"mntp", contrastive.MNTP, backbone.Config{Path: qwen, Attention: backbone.Annealed, AnnealSteps: 2, LoRA: lora}, func(l *contrastive.Config) {
			l.MaskID = &underscore
		}},
		{"causal", contrastive.CausalLM, backbone.Config{Preset: "tiny-causal"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := seeded(t)
			config := testConfig(c.kind)
			config.Model, config.Steps, config.Optimizer.Schedule.Peak = c.model, 3, 1e-3
			if c.loss != nil {
				c.loss(&config.Loss)
			}
			one := onCPU(t, config, 1, Options{})
			want := alone(t, one, seed, c.kind)
			if got := one.State().Digest(); got != one.Digest() {
				t.Errorf("State().Digest() = %s, want the trainer's %s", got, one.Digest())
			}
			if _, backward, err := one.Bytes(100, 4); err != nil || backward <= 0 {
				t.Errorf("Bytes(100, 4) = %d, %v, want some", backward, err)
			}
			two := onCPU(t, config, 2, Options{Keep: 1 << 30})
			for i, got := range alone(t, two, seed, c.kind) {
				compare(t, fmt.Sprintf("step %d, two threads, activations kept", i), got, want[i])
			}
			var fleet []*Trainer
			for w := range 3 {
				fleet = append(fleet, onCPU(t, config, 1, Options{Keep: int64(w) << 20}))
			}
			trainWithHub(t, seed, c.kind, fleet, want, map[string]int{})
		})
	}
}

// The promise for every family of the goldens, whose blocks differ: the digests of parameters and moments are equal for W =
// 1, 2 and 3 workers that are disturbed, on different numbers of threads, with the attention that opens.
func TestGoldenFamiliesDoNotShowTheFleet(t *testing.T) {
	families, err := filepath.Glob(filepath.Join(golden.Dir(t, "backbones"), "*", "config.json"))
	if err != nil || len(families) < 3 {
		t.Fatalf("%d families: %v", len(families), err)
	}
	for _, file := range families {
		for _, kind := range []string{contrastive.InfoNCEKind, contrastive.MNTP} {
			t.Run(filepath.Base(filepath.Dir(file))+"/"+kind, func(t *testing.T) {
				seed := seeded(t)
				config := testConfig(kind)
				config.Steps, config.Optimizer.Schedule.Peak = 2, 1e-3
				config.Model = backbone.Config{
					Path: filepath.Dir(file), Attention: backbone.Annealed, AnnealSteps: 3, LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8, Dropout: 0.1},
				}
				mask := int32(vocabulary - 1)
				config.Loss.MaskID = &mask
				want := alone(t, onCPU(t, config, 1, Options{}), seed, kind)
				for workers := 1; workers <= 3; workers++ {
					var fleet []*Trainer
					for w := range workers {
						fleet = append(fleet, onCPU(t, config, 1+w%2, Options{Keep: int64(w) << 20}))
					}
					trainWithHub(t, seed, kind, fleet, want, map[string]int{})
				}
			})
		}
	}
}

// Dropout changes a training step and nothing else: an evaluation is without it.
func TestDropoutIsForTrainingOnly(t *testing.T) {
	config := testConfig(contrastive.InfoNCEKind)
	path := filepath.Join(golden.Dir(t, "backbones"), "qwen2")
	var rows [2][]float32
	var losses [2]float64
	for i, p := range []float64{0, 0.5} {
		config.Model = backbone.Config{Path: path, LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8, Dropout: p}}
		tr := onCPU(t, config, 1, Options{})
		state := tr.State()
		for j := range state.Parameters { // B is not zero, so that adapters do something
			state.Parameters[j] += 0.05
		}
		if err := tr.Restore(state); err != nil {
			t.Fatal(err)
		}
		header, shards := stepBatch(1, contrastive.InfoNCEKind, 0)
		e, err := tr.Embed(shards[0])
		if err != nil {
			t.Fatal(err)
		}
		rows[i] = e
		o, err := tr.Step(t.Context(), header, 0, NewSolo(tr, shards, header.Slots))
		if err != nil {
			t.Fatal(err)
		}
		losses[i] = o.Loss
	}
	for j := range rows[0] {
		if rows[0][j] != rows[1][j] {
			t.Fatalf("Embed with dropout 0.5 differs from Embed without at value %d", j)
		}
	}
	if losses[0] == losses[1] {
		t.Errorf("a training step's loss is %v with and without dropout", losses[0])
	}
}
