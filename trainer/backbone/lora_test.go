package backbone_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// Module follows PEFT: rank and alpha are looked up apart, and a key matches a whole part of the name's end.
func TestModule(t *testing.T) {
	c := backbone.LoRAConfig{
		Rank: 4, Alpha: 8,
		RankPattern:  map[string]int{"q_proj": 16, `layers\.1\.mlp\.(up|down)_proj`: 2},
		AlphaPattern: map[string]float64{"layers.0.self_attn.q_proj": 32, "proj": 100},
	}
	for _, tt := range []struct {
		name         string
		rsLoRA       bool
		rank         int
		alpha, scale float64
	}{
		{"layers.0.self_attn.k_proj", false, 4, 8, 2}, // not "proj"
		{"layers.0.self_attn.q_proj", false, 16, 32, 2},
		{"layers.1.self_attn.q_proj", false, 16, 8, 0.5},
		{"layers.1.self_attn.q_proj", true, 16, 8, 2},
		{"layers.1.mlp.down_proj", false, 2, 8, 4},
		{"layers.11.mlp.down_proj", false, 4, 8, 2},
	} {
		c.RSLoRA = tt.rsLoRA
		rank, alpha, scale := c.Module(tt.name)
		if rank != tt.rank || alpha != tt.alpha || scale != tt.scale {
			t.Errorf("Module(%s) = %d, %v, %v, want %d, %v, %v", tt.name, rank, alpha, scale, tt.rank, tt.alpha, tt.scale)
		}
	}
}

func TestPatternsRefused(t *testing.T) {
	path := filepath.Join(golden.Dir(t, "backbones"), "qwen2")
	for name, tt := range map[string]struct {
		ranks map[string]int
		want  string
	}{
		"no expression": {map[string]int{"q_(": 2}, `model.lora.rank_pattern: "q_("`},
		"unused":        {map[string]int{"lm_head": 2}, `"lm_head" matches none of the adapted modules, such as layers.0.self_attn.q_proj`},
		"two values":    {map[string]int{"q_proj": 2, "layers.0.*": 3}, `layers.0.self_attn.q_proj matches "layers.0.*" (3) and "q_proj" (2)`},
		"zero":          {map[string]int{"q_proj": 0}, `"q_proj": 0, want more than 0`},
	} {
		t.Run(name, func(t *testing.T) {
			c := backbone.Config{Path: path, LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8, RankPattern: tt.ranks}}
			base, err := backbone.Load(c, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer base.Close()
			if _, err := backbone.New(base, device(t, 1), c, backbone.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}
