package checkpoints

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Adapter says how the LoRA adapters of a checkpoint apply (adapter_config.json as PEFT 0.x reads it).
type Adapter struct {
	Base    string // name or folder of the model that they adapt
	Rank    int
	Alpha   float64
	Dropout float64
	RSLoRA  bool     // scale alpha/sqrt(rank) instead of alpha/rank
	Targets []string // last parts of the adapted modules' names, such as q_proj

	RankPattern  map[string]int     // other ranks by a name's end or a regular expression for it
	AlphaPattern map[string]float64 // likewise
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
		"rank_pattern":            some(a.RankPattern),
		"alpha_pattern":           some(a.AlphaPattern),
		"use_dora":                false,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", AdapterConfigName, err)
	}
	return append(text, '\n'), nil
}

// rank returns the rank of a module, as PEFT looks it up: that of a pattern that matches the end of its name, or Rank.
func (a *Adapter) rank(module string) (int, error) {
	for _, pattern := range slices.Sorted(maps.Keys(a.RankPattern)) {
		e, err := regexp.Compile(`^(?:.*\.)?(?:` + pattern + `)$`)
		if err != nil {
			return 0, fmt.Errorf("%s: rank_pattern %q: %w", AdapterConfigName, pattern, err)
		}
		if e.MatchString(module) {
			return a.RankPattern[pattern], nil
		}
	}
	return a.Rank, nil
}

// ranks lists all ranks, for messages.
func (a *Adapter) ranks() string {
	all := slices.Collect(maps.Values(a.RankPattern))
	all = append(all, a.Rank)
	slices.Sort(all)
	return strings.Trim(fmt.Sprint(slices.Compact(all)), "[]")
}

// parseAdapter reads an adapter_config.json; keys of newer versions are ignored, what would change the result is not.
func parseAdapter(text []byte) (*Adapter, error) {
	var c struct {
		Type         string             `json:"peft_type"`
		Base         string             `json:"base_model_name_or_path"`
		Rank         int                `json:"r"`
		Alpha        float64            `json:"lora_alpha"`
		Dropout      float64            `json:"lora_dropout"`
		Targets      []string           `json:"target_modules"`
		RSLoRA       bool               `json:"use_rslora"`
		DoRA         bool               `json:"use_dora"`
		RankPattern  map[string]int     `json:"rank_pattern"`
		AlphaPattern map[string]float64 `json:"alpha_pattern"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	if c.Type != "LORA" || c.DoRA {
		return nil, fmt.Errorf("peft_type %q, use_dora %t: only plain LORA is supported", c.Type, c.DoRA)
	}
	if c.Rank < 1 {
		return nil, fmt.Errorf("r is %d, want at least 1", c.Rank)
	}
	if len(c.RankPattern) == 0 {
		c.RankPattern = nil
	}
	if len(c.AlphaPattern) == 0 {
		c.AlphaPattern = nil
	}
	return &Adapter{c.Base, c.Rank, c.Alpha, c.Dropout, c.RSLoRA, c.Targets, c.RankPattern, c.AlphaPattern}, nil
}

// some makes no map an empty one: PEFT wants {} and not null.
func some[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}
