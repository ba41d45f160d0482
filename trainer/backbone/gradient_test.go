package backbone_test

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// someTexts draws texts of some lengths.
func someTexts(r *rand.Rand, vocab int, lens ...int) []data.Text {
	var out []data.Text
	for i, n := range lens {
		t := data.Text{Slot: int32(i), Row: int64(i), Prompt: int32(n / 3)}
		for range n {
			t.Tokens = append(t.Tokens, int32(r.IntN(vocab)))
		}
		out = append(out, t)
	}
	return out
}

func gaussian(r *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64())
	}
	return out
}

// TestGradients compares the gradient of a whole model with differences of its own cost along random directions in the
// parameters: what the ops' own tests cannot see, such as a tied matrix used twice or a tensor in the wrong place.
func TestGradients(t *testing.T) {
	const seed = 5
	t.Logf("seed %d", seed)
	off := false
	qwen := filepath.Join(golden.Dir(t, "backbones"), "qwen2")
	for _, c := range []struct {
		name     string
		config   backbone.Config
		language bool
		raw      bool
	}{
		{"lora", backbone.Config{Path: qwen, Pooling: "last_token", LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8, Dropout: 0.1}}, false, false},
		{"some targets", backbone.Config{Path: qwen, LoRA: &backbone.LoRAConfig{Rank: 2, Alpha: 8, RSLoRA: true, Targets: []string{"v_proj", "up_proj"}}}, false, false},
		{"patterns", backbone.Config{Path: qwen, LoRA: &backbone.LoRAConfig{
			Rank: 4, Alpha: 8, Dropout: 0.1, RankPattern: map[string]int{"q_proj": 2, `layers\.1\.mlp\..*proj`: 6}, AlphaPattern: map[string]float64{"layers.0.self_attn.v_proj": 16},
		}}, false, false},
		{"annealed", backbone.Config{Path: qwen, Attention: backbone.Annealed, AnnealSteps: 9, LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8}}, false, false},
		{"raw", backbone.Config{Path: qwen, LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8}}, false, true},
		{"full", backbone.Config{Path: qwen, Attention: backbone.Bidirectional, PoolPrompt: &off}, false, false},
		{"masked diffusion", backbone.Config{Preset: "tiny-diffusion"}, true, false},
		{"causal", backbone.Config{Preset: "tiny-causal"}, true, false},
		{"language with lora", backbone.Config{Path: qwen, LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8}}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			m := model(t, device(t, 2), c.config, backbone.Options{Head: c.language, Raw: c.raw, Seed: seed})
			w := m.Parameters()
			if c.config.LoRA != nil { // B is zero: move away from there
				for i, v := range gaussian(r, len(w)) {
					w[i] += 0.05 * v
				}
			}
			batch := backbone.Batch{Texts: someTexts(r, m.Architecture().Vocab, 3, 1, 9, 20), Step: 3, Training: true}
			dE := gaussian(r, len(batch.Texts)*m.Width())
			p := backbone.Prediction{Position: []int32{2, 5, 6, 30}, Target: []int32{7, 100, 7, 0}, Weight: []float32{1, 0.5, 2, 0.25}}
			grad := make([]float32, len(w))
			cost := func() float64 {
				if c.language {
					loss, err := m.LanguageBackward(batch, p, make([]float32, len(w)))
					if err != nil {
						t.Fatal(err)
					}
					return loss
				}
				rows, _, err := m.Embed(batch, 0)
				if err != nil {
					t.Fatal(err)
				}
				sum := 0.0
				for i, v := range rows {
					sum += float64(v) * float64(dE[i])
				}
				return sum
			}
			if c.language {
				if _, err := m.LanguageBackward(batch, p, grad); err != nil {
					t.Fatal(err)
				}
			} else if err := m.EmbedBackward(batch, dE, grad, nil); err != nil {
				t.Fatal(err)
			}
			for _, q := range m.Params() { // along each tensor's own gradient: the derivative is its norm
				n := 1
				for _, s := range q.Shape {
					n *= s
				}
				g, v := grad[q.Offset:q.Offset+n], w[q.Offset:q.Offset+n]
				norm := 0.0
				for _, x := range g {
					norm += float64(x) * float64(x)
				}
				norm = math.Sqrt(norm)
				if norm < 1e-3 {
					t.Errorf("gradient of %s has norm %g: nothing to compare", q.Name, norm)
					continue
				}
				size := 0.0
				for _, x := range v {
					size += float64(x) * float64(x)
				}
				old := append([]float32(nil), v...)
				at := func(h float64) float64 {
					for i := range v {
						v[i] = float32(float64(old[i]) + h*float64(g[i])/norm)
					}
					return cost()
				}
				got := math.Inf(1)
				for _, share := range []float64{3e-3, 3e-4, 3e-5, 3e-6} { // between rounding and curvature, which differ by tensor
					step := share * max(math.Sqrt(size), 0.1)
					if d := (at(step) - at(-step)) / (2 * step); math.Abs(d-norm) < math.Abs(got-norm) {
						got = d
					}
				}
				copy(v, old)
				if math.Abs(got-norm) > 0.03*norm+2e-3 {
					t.Errorf("derivative along the gradient of %s = %g, want its norm %g", q.Name, got, norm)
				}
			}
		})
	}
}
