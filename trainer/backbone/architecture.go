package backbone

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// Architecture is what a config.json says about a decoder, in one spelling for all families.
type Architecture struct {
	Family  string // model_type
	Width   int    // d
	Layers  int
	Heads   int
	KV      int // key/value heads
	HeadDim int
	FF      int // width of the MLP
	Vocab   int // rows of the embedding table
	Eps     float32

	Frequencies []float32 // of the rotation, [HeadDim/2], scaling included

	QKVBias, OBias bool
	HeadNorm       bool // q/k RMSNorm per head
	Tied           bool // the language-model head is the embedding table
	Window         int  // causal sliding window, 0 = none
	WindowFrom     int  // first layer that has it
	Bidirectional  bool // the family's own attention
	Shift          bool // the head reads token i from the state at i-1
	MaskToken      int  // of a diffusion model, -1 = none
	MaxPositions   int
}

// hfConfig holds the keys of config.json that are read, in all spellings.
type hfConfig struct {
	ModelType string `json:"model_type"`

	HiddenSize       int `json:"hidden_size"`
	NumLayers        int `json:"num_hidden_layers"`
	NumHeads         int `json:"num_attention_heads"`
	NumKV            int `json:"num_key_value_heads"`
	HeadDim          int `json:"head_dim"`
	IntermediateSize int `json:"intermediate_size"`
	VocabSize        int `json:"vocab_size"`
	MaxPositions     int `json:"max_position_embeddings"`

	HiddenAct     string   `json:"hidden_act"`
	RMSNormEps    float64  `json:"rms_norm_eps"`
	RopeTheta     *float64 `json:"rope_theta"`
	RopeScaling   *hfRope  `json:"rope_scaling"`
	Rope          *hfRope  `json:"rope_parameters"`
	AttentionBias bool     `json:"attention_bias"`
	MLPBias       bool     `json:"mlp_bias"`
	Tied          bool     `json:"tie_word_embeddings"`
	SlidingWindow *int     `json:"sliding_window"`
	UseWindow     *bool    `json:"use_sliding_window"`
	WindowLayers  *int     `json:"max_window_layers"`
	MaskToken     *int     `json:"mask_token_id"`
	IsCausal      *bool    `json:"is_causal"`

	LLaDA
}

// LLaDA holds the keys of a LLaDA (OLMo) config.json.
type LLaDA struct {
	DModel        int    `json:"d_model"`
	NHeads        int    `json:"n_heads"`
	NKVHeads      int    `json:"n_kv_heads"`
	NLayers       int    `json:"n_layers"`
	MLPHiddenSize int    `json:"mlp_hidden_size"`
	EmbeddingSize int    `json:"embedding_size"`
	MaxSequence   int    `json:"max_sequence_length"`
	Activation    string `json:"activation_type"`
	BlockType     string `json:"block_type"`
	WeightTying   bool   `json:"weight_tying"`
	IncludeBias   bool   `json:"include_bias"`
	QKVBias       bool   `json:"include_qkv_bias"`
}

type hfRope struct {
	Theta     *float64 `json:"rope_theta"`
	Type      string   `json:"rope_type"`
	OldType   string   `json:"type"`
	Factor    float64  `json:"factor"`
	Low       float64  `json:"low_freq_factor"`
	High      float64  `json:"high_freq_factor"`
	Positions float64  `json:"original_max_position_embeddings"`
}

// ReadArchitecture reads config.json of a Hugging Face folder.
func ReadArchitecture(dir string) (Architecture, error) {
	path := filepath.Join(dir, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return Architecture{}, fmt.Errorf("model %s: %w", dir, gguf(dir, err))
	}
	a, err := ParseArchitecture(text)
	if err != nil {
		return Architecture{}, fmt.Errorf("model %s: %w", path, err)
	}
	return a, nil
}

// ParseArchitecture reads the text of a config.json, in the spelling of transformers 5 (rope_parameters) or of before
// (rope_theta, rope_scaling).
func ParseArchitecture(text []byte) (Architecture, error) {
	var c hfConfig
	if err := json.Unmarshal(text, &c); err != nil {
		return Architecture{}, err
	}
	if err := refuse(text); err != nil {
		return Architecture{}, err
	}
	row := families[c.ModelType]
	if row.spelling != nil {
		row.spelling(&c)
	}
	a := Architecture{
		Family: c.ModelType,
		Width:  c.HiddenSize, Layers: c.NumLayers, Heads: c.NumHeads, KV: c.NumKV, HeadDim: c.HeadDim,
		FF: c.IntermediateSize, Vocab: c.VocabSize, Eps: float32(c.RMSNormEps), MaxPositions: c.MaxPositions,
		Tied: c.Tied, HeadNorm: row.headNorm, Bidirectional: row.bidirectional, Shift: row.shift, MaskToken: -1,
		QKVBias: row.qkvBias || c.AttentionBias, OBias: c.AttentionBias,
	}
	if a.KV == 0 {
		a.KV = a.Heads
	}
	if a.HeadDim == 0 && a.Heads > 0 {
		a.HeadDim = a.Width / a.Heads
	}
	if c.MaskToken != nil {
		a.MaskToken = *c.MaskToken
	}
	if c.IsCausal != nil {
		a.Bidirectional = !*c.IsCausal
	}
	// A window is on where use_sliding_window is absent (Mistral) or true; false ignores sliding_window.
	if c.SlidingWindow != nil && (c.UseWindow == nil && !row.windowOff || c.UseWindow != nil && *c.UseWindow) {
		a.Window = *c.SlidingWindow
		if c.UseWindow != nil && c.WindowLayers != nil {
			a.WindowFrom = *c.WindowLayers
		}
	}
	if err := a.check(&c); err != nil {
		return Architecture{}, err
	}
	var err error
	a.Frequencies, err = c.frequencies(a.HeadDim)
	return a, err
}

func (a *Architecture) check(c *hfConfig) error {
	for _, v := range []struct {
		key  string
		size int
	}{
		{"hidden_size", a.Width},
		{"num_hidden_layers", a.Layers},
		{"num_attention_heads", a.Heads},
		{"num_key_value_heads", a.KV},
		{"head_dim", a.HeadDim},
		{"intermediate_size", a.FF},
		{"vocab_size", a.Vocab},
	} {
		if v.size < 1 || v.size > 1<<24 {
			return fmt.Errorf("%s is %d, want 1 to %d", v.key, v.size, 1<<24)
		}
	}
	switch {
	case a.Heads%a.KV != 0:
		return fmt.Errorf("num_attention_heads %d is not a multiple of num_key_value_heads %d", a.Heads, a.KV)
	case a.HeadDim%2 != 0:
		return fmt.Errorf("head_dim is %d, want an even number", a.HeadDim)
	case a.Window < 0:
		return fmt.Errorf("sliding_window is %d, want at least 1", a.Window)
	case !(a.Eps > 0):
		return fmt.Errorf("rms_norm_eps is %v, want more than 0", c.RMSNormEps)
	case c.HiddenAct != "" && c.HiddenAct != "silu":
		return fmt.Errorf("hidden_act %q is not supported; supported: silu", c.HiddenAct)
	case c.MLPBias:
		return errors.New("mlp_bias true is not supported")
	case a.MaskToken >= a.Vocab:
		return fmt.Errorf("mask_token_id %d is not below vocab_size %d", a.MaskToken, a.Vocab)
	}
	return nil
}

// frequencies returns 1 / theta^(2i/hd), rounded to float32 as the reference has them, with Llama 3's scaling.
func (c *hfConfig) frequencies(headDim int) ([]float32, error) {
	theta, rope := 10000.0, hfRope{}
	if c.RopeTheta != nil {
		theta = *c.RopeTheta
	}
	for _, r := range []*hfRope{c.RopeScaling, c.Rope} {
		if r != nil {
			rope = *r
		}
	}
	if rope.Theta != nil {
		theta = *rope.Theta
	}
	if !(theta > 0) {
		return nil, fmt.Errorf("rope_theta is %v, want more than 0", theta)
	}
	kind := rope.Type
	if kind == "" {
		kind = rope.OldType
	}
	out := make([]float32, headDim/2)
	for i := range out {
		exponent := float64(float32(2*i) / float32(headDim))
		out[i] = 1 / float32(math.Pow(theta, exponent))
	}
	switch kind {
	case "", "default":
		return out, nil
	case "llama3":
	default:
		return nil, fmt.Errorf("rope_type %q is not supported; supported: default, llama3", kind)
	}
	if rope.Factor <= 0 || rope.Low <= 0 || rope.High <= rope.Low || rope.Positions <= 0 {
		return nil, fmt.Errorf("rope of type llama3 has factor %v, low_freq_factor %v, high_freq_factor %v, original_max_position_embeddings %v",
			rope.Factor, rope.Low, rope.High, rope.Positions)
	}
	for i, f := range out {
		out[i] = float32(llama3(float64(f), rope))
	}
	return out, nil
}

// llama3 scales a frequency f by its wavelength w = 2 pi / f: long ones by 1/factor, short ones not, between them
// smoothly (Llama 3.1; transformers' _compute_llama3_parameters).
func llama3(f float64, r hfRope) float64 {
	w := 2 * math.Pi / f
	switch {
	case w < r.Positions/r.High:
		return f
	case w > r.Positions/r.Low:
		return f / r.Factor
	}
	s := (r.Positions/w - r.Low) / (r.High - r.Low)
	return (1-s)*f/r.Factor + s*f
}
