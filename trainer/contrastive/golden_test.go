package contrastive

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

// exact is the README's tolerance of float64, relative to max(1, value).
const exact = 1e-12

// gradients is a set of gradients as the golden files lay them out.
type gradients struct{ Query, Positive, Negative [][]float64 }

func (g gradients) flat() []float64 {
	return slices.Concat(slices.Concat(g.Query...), slices.Concat(g.Positive...), slices.Concat(g.Negative...))
}

type contrastiveCase struct {
	Name, Kind, Set   string
	Symmetric, Masked bool
	Temperature, Loss float64
	Scale             float64   `json:"input_scale"`
	Raw               gradients `json:"grad_raw"`
	Unit              gradients `json:"grad_unit"`
	raw               []float64 // [R, D]
	batch             Batch
}

func readContrastive(t *testing.T) (cases []contrastiveCase, d int) {
	t.Helper()
	var f struct {
		D      int
		Inputs struct {
			Query, Positive [][]float64
			ID              []uint64 `json:"positive_id"`
			Sets            map[string]struct {
				Counts   []int32 `json:"negatives_per_query"`
				Negative [][]float64
				ID       []uint64 `json:"negative_id"`
			}
		}
		Cases []contrastiveCase
	}
	readJSON(t, "contrastive.json", &f)
	for i := range f.Cases {
		c := &f.Cases[i]
		set := f.Inputs.Sets[c.Set]
		c.raw = gradients{f.Inputs.Query, f.Inputs.Positive, set.Negative}.flat()
		c.batch = Batch{Queries: len(f.Inputs.Query), Docs: slices.Concat(f.Inputs.ID, set.ID), Negatives: set.Counts}
	}
	return f.Cases, f.D
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(golden.Dir(t, "losses"), name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

func (c contrastiveCase) options() Options {
	return Options{Explicit: c.Kind == ExplicitKind, Temperature: c.Temperature, Symmetric: c.Symmetric, MaskDuplicates: c.Masked}
}

// worst returns the largest difference relative to max(1, largest wanted value).
func worst(t *testing.T, got, want []float64) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	diff, size := 0.0, 1.0
	for i, w := range want {
		diff, size = max(diff, math.Abs(got[i]-w)), max(size, math.Abs(w))
		if math.IsNaN(got[i]) {
			return math.NaN()
		}
	}
	return diff / size
}

func within(t *testing.T, what string, got, want []float64, tolerance float64) {
	t.Helper()
	if w := worst(t, got, want); !(w <= tolerance) {
		t.Errorf("%s: largest difference %.2g of the largest value, want at most %.2g", what, w, tolerance)
	}
}

func TestReferenceGolden(t *testing.T) {
	cases, d := readContrastive(t)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			if c.Kind == ExplicitKind {
				loss, grad := Reference(c.scaled(), d, c.batch, c.options())
				within(t, "loss", []float64{loss}, []float64{c.Loss}, exact)
				within(t, "gradient of raw rows", grad, c.Raw.flat(), exact)
				return
			}
			u, length := Unit(c.raw, d)
			loss, grad := Reference(u, d, c.batch, c.options())
			within(t, "loss", []float64{loss}, []float64{c.Loss}, exact)
			within(t, "gradient of unit rows", grad, c.Unit.flat(), exact)
			within(t, "gradient of raw rows", UnitGrad(grad, u, length, d), c.Raw.flat(), exact)
		})
	}
}

// scaled are the inputs of the explicit loss.
func (c contrastiveCase) scaled() []float64 {
	rows := slices.Clone(c.raw)
	for i := range rows {
		rows[i] *= c.Scale
	}
	return rows
}

// The README's table: torch in float32, 2.4e-8 and 2.5e-8, before the loss was rounded to float32: half a unit in the last
// place of a loss below 4 is 1.2e-7.
func TestExplicitGolden(t *testing.T) {
	cases, d := readContrastive(t)
	found := 0
	for _, c := range cases {
		if c.Kind != ExplicitKind {
			continue
		}
		found++
		t.Run(c.Name, func(t *testing.T) {
			raw := c.scaled()
			rows := make([]float32, len(raw))
			for i, x := range raw {
				rows[i] = float32(x)
			}
			loss, grad := onDevice(t, 1, rows, d, c.batch, c.options())
			wide := make([]float64, len(grad))
			for i, g := range grad {
				wide[i] = float64(g)
			}
			within(t, "loss", []float64{loss}, []float64{c.Loss}, 1.2e-7)
			within(t, "gradient of raw rows", wide, c.Raw.flat(), 1.2e-7)
		})
	}
	if found == 0 {
		t.Error("no case of the explicit loss")
	}
}

func TestInfoNCEGolden(t *testing.T) {
	// The README's table: torch in float32 on the same inputs; gradients relative to max(1, largest value).
	value := map[float64]float64{0.05: 1.2e-7, 0.02: 1.5e-7, 0.001: 1.4e-7}
	gradient := map[float64]float64{0.05: 6.4e-7, 0.02: 1.6e-6, 0.001: 1.7e-5}
	cases, d := readContrastive(t)
	for _, c := range cases {
		if c.Kind != InfoNCEKind {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			unit, length := Unit(c.raw, d)
			rows := make([]float32, len(unit))
			for i, x := range unit {
				rows[i] = float32(x)
			}
			loss, grad := onDevice(t, 1, rows, d, c.batch, c.options())
			wide := make([]float64, len(grad))
			for i, g := range grad {
				wide[i] = float64(g)
			}
			within(t, "loss", []float64{loss}, []float64{c.Loss}, value[c.Temperature])
			within(t, "gradient of unit rows", wide, c.Unit.flat(), gradient[c.Temperature])
			within(t, "gradient of raw rows", UnitGrad(wide, unit, length, d), c.Raw.flat(), gradient[c.Temperature])
		})
	}
}

func TestLanguageGolden(t *testing.T) {
	var f struct {
		T, V    int
		Cu      []int `json:"cu_seqlens"`
		Logits  [][]float64
		Targets []int32
		Mask    []int
		Times   []float64 `json:"t"`
		Cases   []struct {
			Name      string
			Loss      float64
			Predicted int
			Grad      [][]float64 `json:"grad_logits"`
		}
	}
	readJSON(t, "language.json", &f)
	var texts []Text
	for i := 1; i < len(f.Cu); i++ {
		texts = append(texts, Text{ID: uint32(i), Tokens: f.Targets[f.Cu[i-1]:f.Cu[i]]})
	}
	masked := func(text, token int) bool { return f.Mask[f.Cu[text]+token] == 1 }
	for _, c := range f.Cases {
		t.Run(c.Name, func(t *testing.T) {
			// Weights are float32 with the divisor inside, as the step uses them; here they are computed again
			// without rounding, to compare in float64.
			var p Prediction
			if c.Name == CausalLM {
				p = Causal(texts, float64(c.Predicted))
				all := Config{Kind: MNTP, MaskRate: 1}.Predict(texts, -1, 1, 0, float64(c.Predicted)) // has the same terms
				if !slices.Equal(all.Position, p.Position) || !slices.Equal(all.Weight, p.Weight) {
					t.Error("mntp with every token masked asks for other terms than causal-lm")
				}
			} else {
				divisor := map[string]int{"per-tokens": f.T, "per-masked": c.Predicted, "per-sequences": len(texts)}[c.Name[strings.LastIndex(c.Name, "/")+1:]]
				p = Config{Shift: strings.Contains(c.Name, "/shift/")}.diffusion(texts, -1, float64(divisor), f.Times, masked)
			}
			if len(p.Target) != c.Predicted {
				t.Fatalf("%d terms, want %d", len(p.Target), c.Predicted)
			}
			weight := make([]float64, len(p.Weight))
			for i, w := range p.Weight {
				weight[i] = float64(w)
			}
			loss, grad := CrossEntropy(f.Logits, p.Position, p.Target, weight)
			const rounded = 1e-7 // of float32 weights; the README grants float32 2e-7 and 8.7e-7
			within(t, "loss", []float64{loss}, []float64{c.Loss}, rounded)
			within(t, "gradient of logits", slices.Concat(grad...), slices.Concat(c.Grad...), rounded)
			for i, at := range p.Position {
				weight[i] = exactWeight(at, c.Name, texts, f.Times, len(p.Target), f.T)
			}
			loss, grad = CrossEntropy(f.Logits, p.Position, p.Target, weight)
			within(t, "loss in float64", []float64{loss}, []float64{c.Loss}, exact)
			within(t, "gradient of logits in float64", slices.Concat(grad...), slices.Concat(c.Grad...), exact)
		})
	}
}

// exactWeight is the weight of the term that reads packed position at, in float64.
func exactWeight(at int32, name string, texts []Text, times []float64, terms, tokens int) float64 {
	if name == CausalLM {
		return 1 / float64(terms)
	}
	text, end := 0, int32(len(texts[0].Tokens))
	for at >= end {
		text++
		end += int32(len(texts[text].Tokens))
	}
	switch name[strings.LastIndex(name, "/")+1:] {
	case "per-tokens":
		return 1 / times[text] / float64(tokens)
	case "per-masked":
		return 1 / times[text] / float64(terms)
	}
	return 1 / times[text] / float64(len(texts))
}
