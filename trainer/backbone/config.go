// Package backbone builds the gorgonia graph of one config-driven pre-norm decoder block, its LoRA adapters
// and its pooling. It knows neither losses nor devices.
package backbone

// Attention masks of a backbone.
const (
	Causal        = "causal"
	Bidirectional = "bidirectional"
	Annealed      = "annealed" // causal at first, bidirectional after Config.AnnealSteps; training only
)

// Config is what a run says about its model (model: in the YAML).
type Config struct {
	Path          string      `yaml:"path,omitempty" json:"path,omitempty"`                         // Hugging Face folder or a checkpoint of ours
	Preset        string      `yaml:"preset,omitempty" json:"preset,omitempty"`                     // tiny-diffusion | tiny-causal: random weights from the seed
	Merge         []string    `yaml:"merge,omitempty" json:"merge,omitempty"`                       // adapters, PEFT folders or checkpoints of ours, merged into the weights first, in this order
	Adapter       string      `yaml:"adapter,omitempty" json:"adapter,omitempty"`                   // likewise; the adapter that training continues from; "" = a new one
	Attention     string      `yaml:"attention,omitempty" json:"attention,omitempty"`               // causal | bidirectional | annealed; "" = the family's own
	AnnealSteps   int64       `yaml:"anneal_steps,omitempty" json:"anneal_steps,omitempty"`         // annealed: steps until the mask is open
	EvalAttention string      `yaml:"eval_attention,omitempty" json:"eval_attention,omitempty"`     // "" = attention, and bidirectional where that is annealed
	Pooling       string      `yaml:"pooling,omitempty" json:"pooling,omitempty"`                   // mean | weighted_mean | last_token | first_token
	PoolPrompt    *bool       `yaml:"pool_instruction,omitempty" json:"pool_instruction,omitempty"` // nil = true: the instruction's tokens are pooled too
	LoRA          *LoRAConfig `yaml:"lora,omitempty" json:"lora,omitempty"`                         // nil = full fine-tuning
}

// LoRAConfig is model.lora.
type LoRAConfig struct {
	Rank    int      `yaml:"rank" json:"rank"`
	Alpha   float64  `yaml:"alpha" json:"alpha"`
	Dropout float64  `yaml:"dropout,omitempty" json:"dropout,omitempty"`
	RSLoRA  bool     `yaml:"rslora,omitempty" json:"rslora,omitempty"`
	Targets []string `yaml:"targets,omitempty" json:"targets,omitempty"` // q_proj ... down_proj; empty or all-linear = all seven linears

	// RankPattern and AlphaPattern give some modules a rank or alpha of their own, as PEFT does: a key matches a module
	// when the regular expression `(.*\.)?(KEY)$` matches its name, such as layers.0.self_attn.q_proj.
	RankPattern  map[string]int     `yaml:"rank_pattern,omitempty" json:"rank_pattern,omitempty"`
	AlphaPattern map[string]float64 `yaml:"alpha_pattern,omitempty" json:"alpha_pattern,omitempty"`
}

// Evaluation returns the attention that embeddings are made with outside of training; "" is the family's own.
func (c *Config) Evaluation() string {
	switch {
	case c.EvalAttention != "":
		return c.EvalAttention
	case c.Attention == Annealed:
		return Bidirectional // what it opens to
	}
	return c.Attention
}
