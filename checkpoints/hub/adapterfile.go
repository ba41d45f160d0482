package hub

import (
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

// AdapterConfig is what an adapter_config.json says, as far as it differs from one adapter of ours to the next.
type AdapterConfig struct {
	Base    string // base_model_name_or_path
	Rank    int
	Alpha   float64
	Dropout float64
	RSLoRA  bool

	RankPattern  map[string]int
	AlphaPattern map[string]float64
}

// encode writes all keys that PEFT's versions have asked for. A key's modules are named by their last part; where
// that would adapt the head too (LLaDA's ff_out), by a regular expression over whole paths.
func (c AdapterConfig) encode(tensors []safetensors.Tensor) ([]byte, error) {
	last := map[string]bool{}
	var paths []string
	for _, t := range tensors {
		if path, ok := strings.CutSuffix(strings.TrimPrefix(t.Name, root), ".lora_A.weight"); ok {
			last[path[strings.LastIndex(path, ".")+1:]] = true
			paths = append(paths, path)
		}
	}
	var names []string
	for name := range last {
		names = append(names, name)
	}
	sort.Strings(names)
	var targets any = names
	if slices.Contains(names, "ff_out") {
		number := regexp.MustCompile(`\.[0-9]+\..*`)
		targets = regexp.QuoteMeta(number.ReplaceAllString(paths[0], "")) + `\.[0-9]+\.(` + strings.Join(names, "|") + ")"
	}
	ranks, alphas := map[string]int{}, map[string]any{} // {} where there are none
	maps.Copy(ranks, c.RankPattern)
	for name, alpha := range c.AlphaPattern {
		alphas[name] = whole(alpha)
	}
	text, err := json.MarshalIndent(map[string]any{ // a map's keys are written sorted
		"peft_type": "LORA", "task_type": "FEATURE_EXTRACTION", "base_model_name_or_path": c.Base, "revision": nil, "auto_mapping": nil,
		"r": c.Rank, "lora_alpha": whole(c.Alpha), "lora_dropout": c.Dropout, "use_rslora": c.RSLoRA, "use_dora": false,
		"target_modules": targets, "bias": "none", "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
		"modules_to_save": nil, "layers_to_transform": nil, "layers_pattern": nil,
		"rank_pattern": ranks, "alpha_pattern": alphas, "megatron_config": nil, "megatron_core": "megatron.core", "loftq_config": map[string]any{},
	}, "", "  ")
	return append(text, '\n'), err
}

// whole writes 16 as 16 and not as 16.0, as PEFT's users do; others as they are.
func whole(x float64) any {
	if x == math.Trunc(x) && math.Abs(x) < 1<<31 {
		return int(x)
	}
	return x
}

// bfloat16 rounds to nearest, ties to even; NaN stays NaN.
func bfloat16(values []float32) []byte {
	out := make([]byte, 0, 2*len(values))
	for _, v := range values {
		b := math.Float32bits(v)
		switch {
		case v != v:
			b |= 0x00400000
		default:
			b += 0x7fff + b>>16&1
		}
		out = append(out, byte(b>>16), byte(b>>24))
	}
	return out
}
