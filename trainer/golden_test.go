package trainer

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

// goldenSteps is golden/steps/config.json.
type goldenSteps struct {
	Steps              int64
	Warmup             int64
	Batch              int
	Temperature, Clip  float64
	Decay              float64
	Betas              [2]float64
	Eps                float64
	Pooling, Attention string
	Full               struct{ LR float64 }
	LoRA               struct {
		LR      float64
		R       int
		Alpha   float64
		Targets []string `json:"target_modules"`
	}
}

// The README's tolerances of a correct float32 implementation.
const (
	firstLoss, laterLoss       = 2e-5, 3e-5
	normRelative               = 1e-3
	gradientShare, gradientMin = 1e-5, 5e-6
	firstRMS, lastRMS          = 2.0e-5, 1.1e-4
)

func TestStepsGolden(t *testing.T) {
	dir := golden.Dir(t, "steps")
	var c goldenSteps
	readJSON(t, filepath.Join(dir, "config.json"), &c)
	config := Config{
		Model: backbone.Config{
			Path:      filepath.Join(golden.Dir(t, "backbones"), "qwen2"),
			Attention: c.Attention, Pooling: c.Pooling,
		},
		Loss: contrastive.Config{Kind: contrastive.InfoNCEKind, Temperature: c.Temperature},
		Optimizer: optim.Config{
			Schedule: optim.Schedule{Warmup: c.Warmup, Decay: optim.Linear},
			Clip:     c.Clip, WeightDecay: c.Decay, Beta1: c.Betas[0], Beta2: c.Betas[1], Epsilon: c.Eps,
		},
		Steps: c.Steps,
	}
	t.Run("full", func(t *testing.T) {
		config.Optimizer.Schedule.Peak = c.Full.LR
		goldenRun(t, filepath.Join(dir, "full"), config, c)
	})
	t.Run("lora", func(t *testing.T) {
		config.Optimizer.Schedule.Peak = c.LoRA.LR
		config.Model.LoRA = &backbone.LoRAConfig{Rank: c.LoRA.R, Alpha: c.LoRA.Alpha, Targets: c.LoRA.Targets}
		goldenRun(t, filepath.Join(dir, "lora"), config, c)
	})
}

func goldenRun(t *testing.T, dir string, config Config, c goldenSteps) {
	tr := onCPU(t, config, 2, Options{Keep: 1 << 30})
	if path := filepath.Join(dir, "adapter.initial", "adapter_model.safetensors"); config.Model.LoRA != nil {
		load(t, tr, path)
	}
	var want struct {
		Loss []float64
		Norm []float64 `json:"grad_norm"`
		Rate []float64 `json:"learning_rate"`
	}
	readJSON(t, filepath.Join(dir, "trajectory.json"), &want)
	batches := openTensors(t, filepath.Join(filepath.Dir(dir), "batches.safetensors"))
	worstLoss, worstNorm := 0.0, 0.0
	for step := range c.Steps {
		header, shards := goldenBatch(t, batches, step, c.Batch)
		o, err := tr.Step(t.Context(), header, step, NewSolo(tr, shards, header.Slots))
		if err != nil {
			t.Fatal(err)
		}
		tolerance := laterLoss
		if step == 0 {
			tolerance = firstLoss
			goldenGradients(t, tr, filepath.Join(dir, "gradients.step0.safetensors"))
		}
		loss, norm := math.Abs(o.Loss-want.Loss[step]), math.Abs(o.Norm/want.Norm[step]-1)
		worstLoss, worstNorm = max(worstLoss, loss), max(worstNorm, norm)
		if !(loss <= tolerance) {
			t.Errorf("step %d: loss = %v, want %v within %v", step, o.Loss, want.Loss[step], tolerance)
		}
		if !(norm <= normRelative) {
			t.Errorf("step %d: gradient norm = %v, want %v within %v of it", step, o.Norm, want.Norm[step], normRelative)
		}
		if math.Abs(o.Rate-want.Rate[step]) > 1e-12 {
			t.Errorf("step %d: rate = %v, want %v", step, o.Rate, want.Rate[step])
		}
		file := filepath.Join(dir, fmt.Sprintf("parameters.after%d.safetensors", step+1))
		if _, err := os.Stat(file); err == nil {
			tolerance := lastRMS
			if step == 0 {
				tolerance = firstRMS
			}
			goldenParameters(t, tr, file, tolerance)
		}
	}
	t.Logf("largest difference of a loss %.2g, of a gradient norm %.2g of it", worstLoss, worstNorm)
}

// goldenBatch reads a step's texts and packs them into a few shards.
func goldenBatch(t *testing.T, f *safetensors.File, step int64, queries int) (data.Header, []*data.Shard) {
	t.Helper()
	ints := func(name string) []int64 {
		v, err := f.Int64(nil, fmt.Sprintf("step%02d.%s", step, name))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	ids, cu := ints("input_ids"), ints("cu_seqlens")
	h := data.Header{Queries: queries, Slots: len(cu) - 1}
	var texts []data.Text
	for i := range h.Slots {
		text := data.Text{Slot: int32(i), Row: int64(i % queries), Role: data.Role(i / queries)}
		for _, id := range ids[cu[i]:cu[i+1]] {
			text.Tokens = append(text.Tokens, int32(id))
		}
		texts = append(texts, text)
		if i >= queries {
			h.Docs = append(h.Docs, uint64(i))
		}
	}
	return h, pack(&h, texts, len(ids)/5)
}

// goldenGradients compares the total of the step just done.
func goldenGradients(t *testing.T, tr *Trainer, file string) {
	t.Helper()
	total := make([]float32, tr.Size())
	tr.spare.Float(total, tr.offsets)
	f := openTensors(t, file)
	worst, largest := 0.0, 0.0
	for i, p := range tr.Params() {
		want := floats(t, f, p.Name)
		for j, g := range total[tr.offsets[i]:tr.offsets[i+1]] {
			worst = max(worst, math.Abs(float64(g)-float64(want[j])))
			largest = max(largest, math.Abs(float64(want[j])))
		}
	}
	tolerance := max(gradientShare*largest, gradientMin)
	t.Logf("gradients of step 0: largest difference %.2g", worst)
	if !(worst <= tolerance) {
		t.Errorf("gradients of step 0: largest difference %v, want at most %v", worst, tolerance)
	}
}

func goldenParameters(t *testing.T, tr *Trainer, file string, tolerance float64) {
	t.Helper()
	f := openTensors(t, file)
	if got, want := len(tr.Params()), len(f.Names()); got != want {
		t.Errorf("%d trainable tensors, %s has %d", got, filepath.Base(file), want)
	}
	worst := 0.0
	for i, p := range tr.Params() {
		want, sum := floats(t, f, p.Name), 0.0
		got := tr.optimizer.Weights[tr.offsets[i]:tr.offsets[i+1]]
		for j, w := range got {
			sum += (float64(w) - float64(want[j])) * (float64(w) - float64(want[j]))
		}
		rms := math.Sqrt(sum / float64(len(got)))
		if worst = max(worst, rms); !(rms <= tolerance) {
			t.Errorf("%s: %s differs by %v (root mean square), want at most %v", filepath.Base(file), p.Name, rms, tolerance)
		}
	}
	t.Logf("%s: worst tensor %.2g (root mean square)", filepath.Base(file), worst)
}

// onCPU returns a trainer of a run on a device of its own.
func onCPU(t testing.TB, config Config, threads int, o Options) *Trainer {
	t.Helper()
	dev, err := cpu.New(threads)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	base, err := backbone.Load(config.Model, config.Seed)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	tr, err := New(config, base, dev, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Free)
	return tr
}

func load(t *testing.T, tr *Trainer, file string) {
	t.Helper()
	f, s := openTensors(t, file), tr.State()
	for i, p := range tr.Params() {
		copy(s.Parameters[tr.offsets[i]:tr.offsets[i+1]], floats(t, f, p.Name))
	}
	if err := tr.Restore(s); err != nil {
		t.Fatal(err)
	}
}

func openTensors(t *testing.T, file string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func floats(t *testing.T, f *safetensors.File, name string) []float32 {
	t.Helper()
	v, err := f.Float32(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func readJSON(t *testing.T, file string, v any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}
