package checkpoints

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Adapter says how the LoRA adapters of a checkpoint apply (adapter_config.json as PEFT 0.x reads it).
type Adapter struct {
	Base    string // name or folder of the model that they adapt
	Rank    int
	Alpha   float64
	Dropout float64
	RSLoRA  bool     // scale alpha/sqrt(rank) instead of alpha/rank
	Targets []string // last parts of the adapted modules' names, such as q_proj
}

func (a *Adapter) encode() ([]byte, error) {
	targets := slices.Clone(a.Targets)
	slices.Sort(targets)
	text, err := json.MarshalIndent(map[string]any{ // a map's keys are written sorted
		"peft_type":               "LORA",
		"task_type":               "FEATURE_EXTRACTION",
		"base_model_name_or_path": a.Base,
		"r":                       a.Rank,
		"lora_alpha":              a.Alpha,
		"lora_dropout":            a.Dropout,
		"target_modules":          targets,
		"use_rslora":              a.RSLoRA,
		"bias":                    "none",
		"fan_in_fan_out":          false,
		"inference_mode":          true,
		"init_lora_weights":       true,
		"modules_to_save":         nil,
		"rank_pattern":            map[string]int{},
		"alpha_pattern":           map[string]float64{},
		"use_dora":                false,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", AdapterConfigName, err)
	}
	return append(text, '\n'), nil
}

// parseAdapter reads an adapter_config.json; keys of newer versions are ignored, what would change the result is not.
func parseAdapter(text []byte) (*Adapter, error) {
	var c struct {
		Type         string         `json:"peft_type"`
		Base         string         `json:"base_model_name_or_path"`
		Rank         int            `json:"r"`
		Alpha        float64        `json:"lora_alpha"`
		Dropout      float64        `json:"lora_dropout"`
		Targets      []string       `json:"target_modules"`
		RSLoRA       bool           `json:"use_rslora"`
		DoRA         bool           `json:"use_dora"`
		RankPattern  map[string]any `json:"rank_pattern"`
		AlphaPattern map[string]any `json:"alpha_pattern"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	if c.Type != "LORA" || c.DoRA || len(c.RankPattern)+len(c.AlphaPattern) > 0 {
		return nil, fmt.Errorf("peft_type %q, use_dora %t, %d patterns: only plain LORA is supported", c.Type, c.DoRA, len(c.RankPattern)+len(c.AlphaPattern))
	}
	if c.Rank < 1 {
		return nil, fmt.Errorf("r is %d, want at least 1", c.Rank)
	}
	return &Adapter{c.Base, c.Rank, c.Alpha, c.Dropout, c.RSLoRA, c.Targets}, nil
}
