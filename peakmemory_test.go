package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The peak that a dry run states is what the run then takes, within 10 %: of the process, as the system counts it.
func TestPlannedPeakMemory(t *testing.T) {
	dir := t.TempDir()
	small := memoryModel(t, filepath.Join(dir, "small"), 256, 5, 4, 1024)
	for name, c := range map[string]struct {
		lines string
		batch int
	}{
		"tiny lora":          {"model: {preset: tiny-diffusion, lora: {rank: 8, alpha: 16}}", 32},
		"tiny full":          {"model: {preset: tiny-causal}", 32},
		"small lora":         {"model: {path: " + small + ", pooling: mean, lora: {rank: 16, alpha: 32, dropout: 0.1}}", 16},
		"small lora batch 8": {"model: {path: " + small + ", pooling: mean, lora: {rank: 16, alpha: 32}}", 8},
		"small full":         {"model: {path: " + small + ", pooling: mean}", 8},
		"small causal-lm":    {"model: {path: " + small + ", lora: {rank: 16, alpha: 32}}\nloss: {kind: causal-lm, texts: documents}", 8},
		"small two workers":  {"model: {path: " + small + ", pooling: mean, lora: {rank: 16, alpha: 32}}\ncluster: {workers: 2, threads: 1}", 16},
	} {
		t.Run(name, func(t *testing.T) {
			file := memoryRun(t, c.lines, c.batch)
			plan := start(t, "train", file, "--dry-run")
			if !plan.wait(t, 5*time.Minute) {
				t.Fatalf("train --dry-run: %s", plan.out.String())
			}
			planned := plannedPeak(t, plan.out.String())
			status := filepath.Join(t.TempDir(), "status")
			t.Setenv("COUNTERPOINT_TEST_PEAK", status)
			run := start(t, "train", file)
			if !run.wait(t, 10*time.Minute) {
				t.Fatalf("train: %s", run.out.String())
			}
			used := peakOf(t, status)
			t.Logf("planned %.0f MB, used %.0f MB: %+.1f %%", planned/1e6, used/1e6, 100*(planned/used-1))
			if ratio := planned / used; ratio < 0.9 || ratio > 1.1 {
				t.Errorf("planned %.0f MB, used %.0f MB, want within 10 %%; the plan:\n%s", planned/1e6, used/1e6, plan.out.String())
			}
		})
	}
}

// peakOf reads the most memory that a process had from what it left of /proc/self/status. (Its resource usage would do,
// were it not that a child's begins with its parent's, whose tests may have taken more.)
func peakOf(t *testing.T, path string) float64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("this system does not tell a process its peak: %v", err)
	}
	m := regexp.MustCompile(`VmHWM:\s+([0-9]+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no VmHWM in %s", text)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v * 1024
}

var peakLine = regexp.MustCompile(`peak of this process about ([0-9.]+) ([kMG]?)B`)

func plannedPeak(t *testing.T, plan string) float64 {
	t.Helper()
	m := peakLine.FindStringSubmatch(plan)
	if m == nil {
		t.Fatalf("the plan states no peak:\n%s", plan)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v * map[string]float64{"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[m[2]]
}

// memoryRun writes a run of a few steps over texts of up to 128 tokens.
func memoryRun(t *testing.T, lines string, batch int) (file string) {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 1))
	words := strings.Fields("the of and in to is for on with as by this are from at an or that be which it has was system model data item list number time work")
	text := func(n int) string {
		var s []string
		for range n {
			s = append(s, words[r.IntN(len(words))])
		}
		return strings.Join(s, " ")
	}
	var pairs bytes.Buffer
	for range 8 * batch {
		row := map[string]any{"query": text(5 + r.IntN(20)), "positive": text(30 + r.IntN(80)), "negatives": []string{text(30 + r.IntN(80))}}
		if err := json.NewEncoder(&pairs).Encode(row); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "pairs.jsonl"), pairs.String())
	file = filepath.Join(dir, "run.yaml")
	write(t, file, fmt.Sprintf("name: memory\n%s\ndata: [{path: pairs.jsonl}]\ntrain: {batch: %d, steps: 2, max_length: 128, shard_tokens: 2048, schedule: {peak: 1e-4, warmup: 1}}\nlog: {dir: %s}\n",
		lines, batch, filepath.Join(dir, "run")))
	return file
}

// memoryModel writes a Llama of random bfloat16 weights with the quickstart's tokenizer.
func memoryModel(t *testing.T, dir string, width, layers, heads, ff int) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		text, err := os.ReadFile(filepath.Join("data", "tokenize", "tiny", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	const vocab = 4096
	write(t, filepath.Join(dir, "config.json"), fmt.Sprintf(`{"model_type": "llama", "hidden_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d, "num_key_value_heads": %[3]d,
		"intermediate_size": %[4]d, "vocab_size": %d, "rms_norm_eps": 1e-5, "hidden_act": "silu", "max_position_embeddings": 512, "tie_word_embeddings": true}`, width, layers, heads, ff, vocab))
	header, end := map[string]any{}, 0
	var body []byte
	r := rand.New(rand.NewPCG(1, 2))
	add := func(name string, shape ...int) {
		n := 1
		for _, k := range shape {
			n *= k
		}
		for range n {
			h := uint16(0x3f80) // 1
			if len(shape) == 2 {
				h = uint16(r.Uint32())&0x807f | 0x3c00
			}
			body = binary.LittleEndian.AppendUint16(body, h)
		}
		header[name] = map[string]any{"dtype": "BF16", "shape": shape, "data_offsets": []int{end, len(body)}}
		end = len(body)
	}
	add("model.embed_tokens.weight", vocab, width)
	for i := range layers {
		layer := fmt.Sprintf("model.layers.%d.", i)
		for _, p := range []string{"q", "k", "v", "o"} {
			add(layer+"self_attn."+p+"_proj.weight", width, width)
		}
		add(layer+"mlp.gate_proj.weight", ff, width)
		add(layer+"mlp.up_proj.weight", ff, width)
		add(layer+"mlp.down_proj.weight", width, ff)
		add(layer+"input_layernorm.weight", width)
		add(layer+"post_attention_layernorm.weight", width)
	}
	add("model.norm.weight", width)
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), append(append(out, text...), body...), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
