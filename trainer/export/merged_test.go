package export_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/export"
)

// TestMergedBelow exports runs whose base had adapters merged into it: one, and two, of other ranks and targets. PEFT's
// adapter is all of them in one, over the base as it was; Export compares with the run's own computation.
func TestMergedBelow(t *testing.T) {
	qwen := golden.Dir(t, "sentence-transformers") + "/mean"
	for name, config := range map[string]backbone.Config{
		"folder": {Path: qwen, Attention: backbone.Bidirectional, LoRA: lora()},
		"preset": {Preset: "tiny-diffusion", LoRA: lora()},
		"LLaDA":  {Path: llada(t), LoRA: lora()},
		"Dream":  {Path: dream(t), LoRA: lora()},
	} {
		t.Run(name, func(t *testing.T) {
			second := config
			second.Merge = []string{newest(t, checkpoint(t, config))}
			second.LoRA = &backbone.LoRAConfig{Rank: 2, Alpha: 5, Targets: []string{"q_proj", "down_proj"}}
			dir := checkpoint(t, second)
			exportMerged(t, dir, lora().Rank+2)
			// The checkpoint itself is no adapter that PEFT could put over the base.
			text, err := os.ReadFile(filepath.Join(newest(t, dir), checkpoints.AdapterConfigName))
			if err != nil || !strings.Contains(string(text), "with adapters merged into it: counterpoint export") {
				t.Errorf("adapter_config.json does not say that the base had adapters merged into it: %s, %v", text, err)
			}
			third := second
			third.Merge = []string{newest(t, dir)}
			if name == "folder" || name == "preset" { // the same again, for time's sake
				exportMerged(t, checkpoint(t, third), lora().Rank+2+2)
			}
			// All parameters trained over merged adapters: the checkpoint has whole weights, and no adapter.
			third.LoRA = nil
			write(t, export.Options{Checkpoint: checkpoint(t, third), Format: hub.SentenceFormat})
		})
	}
}

// exportMerged writes a checkpoint in every format.
func exportMerged(t *testing.T, dir string, rank int) {
	t.Helper()
	for _, format := range export.Formats {
		r := write(t, export.Options{Checkpoint: dir, Format: format})
		card, err := os.ReadFile(filepath.Join(r.Dir, hub.CardName))
		if err != nil || !strings.Contains(string(card), "its adapter was merged into the weights") {
			t.Errorf("%s: the card does not tell of the stage before (%v)", format, err)
		}
		if format != hub.PEFTFormat {
			continue
		}
		if !strings.Contains(string(card), "adapters in one") {
			t.Error("the card does not tell that the adapter is several")
		}
		a, err := hub.OpenAdapter(r.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range a.Modules() {
			if m.Rank != rank || m.Scale != 1 {
				t.Errorf("%s has rank %d and scale %g, want %d and 1", m.Path, m.Rank, m.Scale, rank)
			}
		}
		_ = a.Close()
	}
}

func newest(t *testing.T, dir string) string {
	t.Helper()
	found, err := checkpoints.Find(context.Background(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
