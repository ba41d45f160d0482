package backbone_test

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

// Tolerances of the goldens' README for float32.
const (
	stateTolerance = 5e-5
	embedTolerance = 5e-6
)

func device(t testing.TB, threads int) *cpu.Device {
	t.Helper()
	dev, err := cpu.New(threads)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	return dev
}

func model(t testing.TB, dev *cpu.Device, c backbone.Config, o backbone.Options) *backbone.Model {
	t.Helper()
	base, err := backbone.Load(c, o.Seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = base.Close() })
	m, err := backbone.New(base, dev, c, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fixture is a safetensors file of expected values.
type fixture struct {
	t testing.TB
	*safetensors.File
}

func open(t testing.TB, path string) fixture {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return fixture{t, f}
}

func (f fixture) floats(name string) []float32 {
	f.t.Helper()
	v, err := f.Float32(nil, name)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func (f fixture) ints(name string) []int32 {
	f.t.Helper()
	wide, err := f.Int64(nil, name)
	if err != nil {
		f.t.Fatal(err)
	}
	out := make([]int32, len(wide))
	for i, v := range wide {
		out[i] = int32(v)
	}
	return out
}

// texts splits packed ids.
func texts(ids, cu []int32) []data.Text {
	var out []data.Text
	for i := range len(cu) - 1 {
		out = append(out, data.Text{Slot: int32(i), Row: int64(i), Tokens: ids[cu[i]:cu[i+1]]})
	}
	return out
}

func largestDifference(a, b []float32) float64 {
	worst := 0.0
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		if !(d <= worst) { // NaN too
			worst = d
		}
	}
	return worst
}

func compare(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	if d := largestDifference(got, want); !(d <= tolerance) {
		t.Errorf("%s: largest difference %g, want at most %g", what, d, tolerance)
	} else {
		t.Logf("%s: largest difference %.2g", what, d)
	}
}

// TestGoldenBackbones runs every family of the golden set: hidden states, embeddings, logits and log-likelihoods, in
// both spellings of the configuration.
func TestGoldenBackbones(t *testing.T) {
	root := golden.Dir(t, "backbones")
	folders, err := filepath.Glob(filepath.Join(root, "*", "config.json"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no folders in %s: %v", root, err)
	}
	for _, f := range folders {
		dir := filepath.Dir(f)
		t.Run(filepath.Base(dir), func(t *testing.T) { goldenBackbone(t, dir) })
	}
}

func goldenBackbone(t *testing.T, dir string) {
	want := open(t, filepath.Join(dir, "expected.safetensors"))
	batch := backbone.Batch{Texts: texts(want.ints("input_ids"), want.ints("cu_seqlens"))}
	dev := device(t, 2)
	for _, name := range want.Names() {
		kind, rest, _ := strings.Cut(name, ".")
		mask, pooling, _ := strings.Cut(rest, ".")
		c := backbone.Config{Path: dir, Attention: mask, Pooling: pooling}
		switch kind {
		case "hidden":
			got, err := model(t, dev, c, backbone.Options{}).Hidden(batch)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, name, got, want.floats(name), stateTolerance)
			if alt := alternative(t, dir); alt != "" {
				c.Path = alt
				again, err := model(t, dev, c, backbone.Options{}).Hidden(batch)
				if err != nil {
					t.Fatal(err)
				}
				if d := largestDifference(got, again); d != 0 {
					t.Errorf("%s by config.alt.json differs by %g, want the same bits", name, d)
				}
			}
		case "embed":
			got, _, err := model(t, dev, c, backbone.Options{}).Embed(batch, 0)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, name, got, want.floats(name), embedTolerance)
		case "logits":
			var all []int32
			for i := range want.ints("input_ids") {
				all = append(all, int32(i))
			}
			got, err := model(t, dev, c, backbone.Options{Head: true}).Logits(batch, all)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, name, got, want.floats(name), stateTolerance)
		case "nll":
			if rest == "sum" {
				c.Attention, c.Pooling = backbone.Causal, ""
				likelihoods(t, model(t, dev, c, backbone.Options{Head: true}), batch, want)
			}
		case "input_ids", "cu_seqlens":
		default:
			t.Errorf("expected.safetensors has %q, which this test does not know", name)
		}
	}
}

// likelihoods compares the negative log-likelihood of tokens 2..n of each sequence.
func likelihoods(t *testing.T, m *backbone.Model, batch backbone.Batch, want fixture) {
	var p backbone.Prediction
	var owner []int
	start := int32(0)
	for b, text := range batch.Texts {
		for i := 1; i < len(text.Tokens); i++ {
			p.Position = append(p.Position, start+int32(i)-1)
			p.Target = append(p.Target, text.Tokens[i])
			owner = append(owner, b)
		}
		start += int32(len(text.Tokens))
	}
	got, err := m.TokenLosses(batch, p)
	if err != nil {
		t.Fatal(err)
	}
	sums, counts := make([]float64, len(batch.Texts)), make([]int32, len(batch.Texts))
	for i, b := range owner {
		sums[b] += float64(got[i])
		counts[b]++
	}
	expected, err := want.Float64(nil, "nll.sum")
	if err != nil {
		t.Fatal(err)
	}
	for b, n := range want.ints("nll.count") {
		if counts[b] != n {
			t.Errorf("nll.count[%d] = %d, want %d", b, counts[b], n)
		}
		if d := math.Abs(sums[b] - expected[b]); d > stateTolerance*float64(max(n, 1)) {
			t.Errorf("nll.sum[%d] = %v, want %v", b, sums[b], expected[b])
		}
	}
}

// alternative makes a folder with config.alt.json in the place of config.json, "" if there is none.
func alternative(t *testing.T, dir string) string {
	alt, err := os.ReadFile(filepath.Join(dir, "config.alt.json"))
	if err != nil {
		return ""
	}
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "config.json"), alt, 0o600); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "model*.safetensors*"))
	for _, f := range files {
		if err := os.Symlink(f, filepath.Join(out, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
