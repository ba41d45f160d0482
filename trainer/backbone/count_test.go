package backbone

import (
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

// Sizes and Bytes say what a model then takes.
func TestSizes(t *testing.T) {
	qwen := filepath.Join(golden.Dir(t, "backbones"), "qwen2")
	for _, c := range []struct {
		name string
		Config
		head bool
	}{
		{"preset", Config{Preset: "tiny-diffusion"}, false},
		{"head", Config{Path: qwen}, true},
		{"lora", Config{Path: qwen, LoRA: &LoRAConfig{Rank: 4, Alpha: 8, Targets: []string{"q_proj", "down_proj"}}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, err := Load(c.Config, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer base.Close()
			dev, err := cpu.New(1)
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			m, err := New(base, dev, c.Config, Options{Head: c.head, Seed: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Free()
			total, trainable := base.Sizes(c.Config, c.head)
			if trainable != int64(len(m.Parameters())) || (c.LoRA == nil) != (total == trainable) || total < trainable {
				t.Errorf("Sizes() = %d, %d, want %d trainable parameters", total, trainable, len(m.Parameters()))
			}
			_, small, err := m.Bytes(64, 4)
			if err != nil {
				t.Fatal(err)
			}
			embed, large, err := m.Bytes(1024, 4)
			if err != nil || large <= small || small <= 0 || (embed == 0) != c.head || embed >= large {
				t.Errorf("Bytes(1024, 4) = %d, %d, %v, want more backward than the %d of 64 tokens, and to embed", embed, large, err, small)
			}
		})
	}
}
