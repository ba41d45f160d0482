package backbone_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// peft is what adapter_config.json says.
type peft struct {
	Base    string             `json:"base_model_name_or_path"`
	Rank    int                `json:"r"`
	Alpha   float64            `json:"lora_alpha"`
	RSLoRA  bool               `json:"use_rslora"`
	Targets []string           `json:"target_modules"`
	Ranks   map[string]int     `json:"rank_pattern"`
	Alphas  map[string]float64 `json:"alpha_pattern"`
}

func adapters(t *testing.T) map[string]peft {
	t.Helper()
	golden.Dir(t, "backbones") // beside them
	folders, err := filepath.Glob(filepath.Join(golden.Dir(t, "lora"), "*", "adapter_config.json"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no adapters: %v", err)
	}
	out := map[string]peft{}
	for _, f := range folders {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var c peft
		if err := json.Unmarshal(text, &c); err != nil {
			t.Fatal(err)
		}
		out[filepath.Dir(f)] = c
	}
	return out
}

// TestGoldenAdapters embeds with every adapter, merged into the weights and as the one that training continues from.
// The base of an adapter is relative to its folder.
func TestGoldenAdapters(t *testing.T) {
	for dir, c := range adapters(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			want := open(t, filepath.Join(dir, "expected.safetensors"))
			batch := backbone.Batch{Texts: texts(want.ints("input_ids"), want.ints("cu_seqlens"))}
			dev := device(t, 2)
			for _, attention := range []string{backbone.Causal, backbone.Bidirectional} {
				config := backbone.Config{Path: filepath.Join(golden.Dir(t, "backbones"), filepath.Base(c.Base)), Attention: attention}
				merged, continued := config, config
				merged.Merge = []string{dir}
				continued.Adapter = dir
				continued.LoRA = &backbone.LoRAConfig{Rank: c.Rank, Alpha: c.Alpha, RSLoRA: c.RSLoRA, Targets: c.Targets, RankPattern: c.Ranks, AlphaPattern: c.Alphas}
				for name, config := range map[string]backbone.Config{"merged": merged, "continued": continued} {
					m := model(t, dev, config, backbone.Options{Frozen: true})
					rows, _, err := m.Embed(batch, 0)
					if err != nil {
						t.Fatal(err)
					}
					compare(t, name+" "+attention, rows, want.floats("embed."+attention+".mean"), embedTolerance)
				}
			}
		})
	}
}

// TestAdapterDiffers: what a run says otherwise than the adapter that it continues from is named.
func TestAdapterDiffers(t *testing.T) {
	root := golden.Dir(t, "lora")
	all := adapters(t)
	for _, tt := range []struct {
		name, adapter string
		change        func(*backbone.Config)
		want          []string
	}{
		{"rank", "qwen2-all", func(c *backbone.Config) { c.LoRA.Rank *= 2 }, []string{"model.lora.rank", "layers.0.mlp.down_proj has rank"}},
		{"alpha", "qwen2-all", func(c *backbone.Config) { c.LoRA.Alpha *= 2 }, []string{"model.lora.alpha"}},
		{"rslora", "llama-qv-rslora", func(c *backbone.Config) { c.LoRA.RSLoRA = false }, []string{"model.lora.alpha or rslora"}},
		{"more targets", "qwen2-qv-rslora", func(c *backbone.Config) { c.LoRA.Targets = nil }, []string{"the adapter lacks", "k_proj"}},
		{"fewer targets", "qwen2-all", func(c *backbone.Config) { c.LoRA.Targets = []string{"q_proj"} }, []string{"the adapter does", "down_proj"}},
		{"patterns", "llama-patterns", func(*backbone.Config) {}, []string{"model.lora.rank", "has rank"}},
		{"no LoRA", "qwen2-all", func(c *backbone.Config) { c.LoRA = nil }, []string{"model.merge"}},
		{"other model", "llama-all", func(c *backbone.Config) {
			c.Adapter, c.Merge = "", []string{c.Adapter}
			c.Preset, c.Path = "tiny-causal", ""
		}, []string{"adapter of another model"}},
		{"nothing there", "qwen2-all", func(c *backbone.Config) { c.Adapter = filepath.Join(root, "none") }, []string{"adapter_config.json"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(root, tt.adapter)
			a, ok := all[dir]
			if !ok {
				t.Fatalf("no adapter %s", dir)
			}
			c := backbone.Config{
				Path: filepath.Join(golden.Dir(t, "backbones"), filepath.Base(a.Base)), Adapter: dir,
				LoRA: &backbone.LoRAConfig{Rank: a.Rank, Alpha: a.Alpha, RSLoRA: a.RSLoRA, Targets: a.Targets},
			}
			tt.change(&c)
			_, err := backbone.Load(c, 1)
			if err == nil {
				t.Fatal("Load() accepted it")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("Load() = %v, want an error with %q", err, w)
				}
			}
		})
	}
}
