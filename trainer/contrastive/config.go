// Package contrastive has the objectives of a run: InfoNCE over the global batch as a graph on a device, what the
// language objectives ask of a shard (their graph is the backbone's head), and both losses once more in float64, by
// the formula, as references.
package contrastive

// The objectives of a run (loss.kind).
const (
	InfoNCEKind     = "infonce"
	ExplicitKind    = "explicit" // RepLLaMA: a query's own positive and negatives only
	MaskedDiffusion = "masked-diffusion"
	MNTP            = "mntp" // masked next-token prediction (LLM2Vec)
	CausalLM        = "causal-lm"
)

// Margin strategies of Config.MaskMargin.
const (
	AbsoluteMargin = "absolute"
	RelativeMargin = "relative"
)

// Config is loss: in the YAML.
type Config struct {
	Kind              string    `yaml:"kind" json:"kind"`
	Temperature       float64   `yaml:"temperature,omitempty" json:"temperature,omitempty"`
	HardNegatives     int       `yaml:"hard_negatives,omitempty" json:"hard_negatives,omitempty"`
	Symmetric         bool      `yaml:"symmetric,omitempty" json:"symmetric,omitempty"`
	MaskDuplicates    *bool     `yaml:"mask_duplicates,omitempty" json:"mask_duplicates,omitempty"`       // nil = true: false negatives by document identity
	MaskMargin        *float64  `yaml:"mask_margin,omitempty" json:"mask_margin,omitempty"`               // nil = none: false negatives by similarity
	MarginStrategy    string    `yaml:"margin_strategy,omitempty" json:"margin_strategy,omitempty"`       // absolute (default) | relative
	Matryoshka        []int     `yaml:"matryoshka,omitempty" json:"matryoshka,omitempty"`                 // leading dimensions that the loss is summed over; empty = all of them, once
	MatryoshkaWeights []float64 `yaml:"matryoshka_weights,omitempty" json:"matryoshka_weights,omitempty"` // of each; empty = 1
	MaskRate          float64   `yaml:"mask_rate,omitempty" json:"mask_rate,omitempty"`                   // mntp: chance that a token is masked
	MaskToken         string    `yaml:"mask_token,omitempty" json:"mask_token,omitempty"`                 // mntp, masked diffusion: "" = the model's own
	MaskID            *int32    `yaml:"-" json:"mask_id,omitempty"`                                       // MaskToken in the run's vocabulary, by whoever has the tokenizer
	Epsilon           float64   `yaml:"epsilon,omitempty" json:"epsilon,omitempty"`                       // smallest t of masked diffusion; default 1e-3
	Shift             bool      `yaml:"shift,omitempty" json:"shift,omitempty"`                           // masked diffusion reads token i from the state at i-1
	Texts             string    `yaml:"texts,omitempty" json:"texts,omitempty"`                           // language objectives: all (default) | documents | queries
}

// Embeds reports whether the objective is one of embeddings over a whole global batch, in two phases; the others are
// language objectives, which need the backbone's head.
func (c Config) Embeds() bool { return c.Kind == InfoNCEKind || c.Kind == ExplicitKind }

// Masks reports whether the objective puts a mask token in the place of some tokens.
func (c Config) Masks() bool { return c.Kind == MaskedDiffusion || c.Kind == MNTP }
