// Package contrastive has the objectives of a run: InfoNCE over the global batch as a graph on a device, what the
// language objectives ask of a shard (their graph is the backbone's head), and both losses once more in float64, by
// the formula, as references.
package contrastive

// The objectives of a run (loss.kind).
const (
	InfoNCEKind     = "infonce"
	MaskedDiffusion = "masked-diffusion"
	CausalLM        = "causal-lm"
)

// Config is loss: in the YAML.
type Config struct {
	Kind           string  `yaml:"kind" json:"kind"`
	Temperature    float64 `yaml:"temperature,omitempty" json:"temperature,omitempty"`
	HardNegatives  int     `yaml:"hard_negatives,omitempty" json:"hard_negatives,omitempty"`
	Symmetric      bool    `yaml:"symmetric,omitempty" json:"symmetric,omitempty"`
	MaskDuplicates *bool   `yaml:"mask_duplicates,omitempty" json:"mask_duplicates,omitempty"` // nil = true: false negatives by document identity
	Epsilon        float64 `yaml:"epsilon,omitempty" json:"epsilon,omitempty"`                 // smallest t of masked diffusion; default 1e-3
	Shift          bool    `yaml:"shift,omitempty" json:"shift,omitempty"`                     // masked diffusion reads token i from the state at i-1
	Texts          string  `yaml:"texts,omitempty" json:"texts,omitempty"`                     // language objectives: all (default) | documents | queries
}
