// Package backbone builds the gorgonia graph of one config-driven pre-norm decoder block, its LoRA adapters
// and its pooling. It knows neither losses nor devices.
package backbone

// Attention masks of a backbone.
const (
	Causal        = "causal"
	Bidirectional = "bidirectional"
)

// Config is what a run says about its model (model: in the YAML).
type Config struct {
	Path          string      `yaml:"path,omitempty" json:"path,omitempty"`                         // Hugging Face folder or a checkpoint of ours
	Preset        string      `yaml:"preset,omitempty" json:"preset,omitempty"`                     // tiny-diffusion | tiny-causal: random weights from the seed
	Merge         []string    `yaml:"merge,omitempty" json:"merge,omitempty"`                       // adapters, PEFT folders or checkpoints of ours, merged into the weights first, in this order
	Adapter       string      `yaml:"adapter,omitempty" json:"adapter,omitempty"`                   // likewise; the adapter that training continues from; "" = a new one
	Attention     string      `yaml:"attention,omitempty" json:"attention,omitempty"`               // causal | bidirectional; "" = the family's own
	EvalAttention string      `yaml:"eval_attention,omitempty" json:"eval_attention,omitempty"`     // "" = attention
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
	Targets []string `yaml:"targets,omitempty" json:"targets,omitempty"` // q_proj ... down_proj; empty = all seven linears
}
