package backbone_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
)

type stepsConfig struct {
	Batch       int     `json:"batch"`
	Temperature float64 `json:"temperature"`
	Pooling     string  `json:"pooling"`
	Attention   string  `json:"attention"`
	LoRA        struct {
		Rank    int      `json:"r"`
		Alpha   float64  `json:"alpha"`
		Targets []string `json:"target_modules"`
	} `json:"lora"`
}

// TestGoldenStepGradients compares the embeddings and the gradient of step 0 with those of PyTorch, for all parameters
// and for LoRA.
func TestGoldenStepGradients(t *testing.T) {
	dir := golden.Dir(t, "steps")
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s stepsConfig
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	c := backbone.Config{Path: filepath.Join(golden.Dir(t, "backbones"), "qwen2"), Attention: s.Attention, Pooling: s.Pooling}
	t.Run("full", func(t *testing.T) { stepGradient(t, dir, "full", c, s) })
	c.LoRA = &backbone.LoRAConfig{Rank: s.LoRA.Rank, Alpha: s.LoRA.Alpha, Targets: s.LoRA.Targets}
	t.Run("lora", func(t *testing.T) { stepGradient(t, dir, "lora", c, s) })
}

func stepGradient(t *testing.T, dir, name string, c backbone.Config, s stepsConfig) {
	dev := device(t, 2)
	m := model(t, dev, c, backbone.Options{})
	if name == "lora" {
		adapter := open(t, filepath.Join(dir, name, "adapter.initial", "adapter_model.safetensors"))
		for _, p := range m.Params() {
			copy(m.Parameters()[p.Offset:], adapter.floats(p.Name))
		}
		if err := m.Updated(); err != nil {
			t.Fatal(err)
		}
	}
	batches := open(t, filepath.Join(dir, "batches.safetensors"))
	batch := backbone.Batch{Texts: texts(batches.ints("step00.input_ids"), batches.ints("step00.cu_seqlens")), Training: true}

	rows, kept, err := m.Embed(batch, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	if kept == nil {
		t.Fatal("no activations were kept under a budget of 1 TiB")
	}
	want := open(t, filepath.Join(dir, name, "embeddings.step0.safetensors")).floats("embeddings")
	compare(t, "embeddings", rows, want, embedTolerance)

	docs := make([]uint64, len(batch.Texts)-s.Batch) // all different: nothing is masked
	for i := range docs {
		docs[i] = uint64(i + 1)
	}
	infonce := contrastive.NewLoss(dev, contrastive.Config{Kind: contrastive.InfoNCEKind, Temperature: s.Temperature}.Options())
	defer infonce.Free()
	loss, dE, err := infonce.Loss(rows, m.Width(), contrastive.Batch{Queries: s.Batch, Docs: docs})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("loss %v", loss)
	grad := make([]float32, len(m.Parameters()))
	if err := m.EmbedBackward(batch, dE, grad, kept); err != nil {
		t.Fatal(err)
	}
	again := make([]float32, len(grad))
	for _, a := range []*backbone.Activations{kept, nil} {
		if err := m.EmbedBackward(batch, dE, again, a); err != nil {
			t.Fatal(err)
		}
		if d := largestDifference(grad, again); d != 0 {
			t.Errorf("a second backward pass (activations kept: %t) differs by %g, want the same bits", a != nil, d)
		}
	}
	kept.Free()

	file := open(t, filepath.Join(dir, name, "gradients.step0.safetensors"))
	if n := len(file.Names()); n != len(m.Params()) {
		t.Errorf("%d trainable tensors, want %d", len(m.Params()), n)
	}
	top := 0.0
	for _, n := range file.Names() {
		for _, v := range file.floats(n) {
			top = max(top, math.Abs(float64(v)))
		}
	}
	tolerance, worst := max(1e-5*top, 5e-6), 0.0
	for _, p := range m.Params() {
		want := file.floats(p.Name)
		got := grad[p.Offset : p.Offset+len(want)]
		d := largestDifference(got, want)
		worst = max(worst, d)
		if !(d <= tolerance) {
			t.Errorf("gradient of %s: largest difference %g, want at most %g", p.Name, d, tolerance)
		}
	}
	t.Logf("gradients: largest difference %.2g of %.2g", worst, tolerance)
}
