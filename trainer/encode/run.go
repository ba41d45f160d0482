package encode

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// Run is what a checkpoint keeps of its run, as far as embeddings depend on it.
type Run struct {
	*checkpoints.Manifest
	trainer.Config
	Prompts map[string]string // "query", "document": what stood before the texts
	Spec    json.RawMessage   // everything
}

// ReadRun reads a checkpoint's manifest and the run's settings in its state.
func ReadRun(dir string) (*Run, error) {
	m, err := checkpoints.ReadManifest(dir)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	path := filepath.Join(dir, checkpoints.StateName)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	var state struct{ Spec json.RawMessage }
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r := &Run{Manifest: m, Spec: state.Spec, Prompts: map[string]string{}}
	if err := r.parse(); err != nil {
		return nil, fmt.Errorf("%s: spec: %w", path, err)
	}
	return r, nil
}

// parse reads the trainer's settings and how the texts were written.
func (r *Run) parse() error {
	if len(r.Spec) == 0 {
		return errors.New("the checkpoint keeps none")
	}
	var spec struct {
		Trainer *trainer.Config
		Prompt  struct {
			Query, Document string
			MaxLength       int `json:"max_length"`
		}
	}
	if err := json.Unmarshal(r.Spec, &spec); err != nil {
		return err
	}
	if spec.Trainer == nil {
		return errors.New("it has no trainer settings")
	}
	if r.Config = *spec.Trainer; spec.Prompt.MaxLength > 0 {
		r.MaxLength = spec.Prompt.MaxLength
	}
	for name, text := range map[string]string{"query": spec.Prompt.Query, "document": spec.Prompt.Document} {
		if text != "" {
			r.Prompts[name] = text + ": " // as package data writes an instruction
		}
	}
	return nil
}
