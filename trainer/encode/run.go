package encode

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// Run is what a checkpoint keeps of its run, as far as embeddings depend on it.
type Run struct {
	*checkpoints.Manifest
	trainer.Config
	Prompts    map[string]string // "query", "document": what stood before the texts
	BaseDigest string            // of the model folder that the run began with; "" of a preset
	Spec       json.RawMessage   // everything

	MergedDigests []string   // of the adapters that were merged into the base before training
	History       []Ancestor // the runs that made what this one began with, in their order

	dir string
}

// BaseFolder returns where the base of the run's adapter is, "" if it is a preset: folder if that is given, else where
// the adapter says.
func (r *Run) BaseFolder(folder string) (string, error) {
	if folder != "" || r.Model.Preset != "" {
		return folder, nil
	}
	a, err := hub.OpenAdapter(r.dir)
	if err != nil {
		return "", err
	}
	dir, err := a.BaseFolder()
	return dir, errors.Join(err, a.Close())
}

// base opens the weights below the run's adapter, with the adapters that the run had merged into them.
func (r *Run) base(o Options) (*backbone.Base, error) {
	dir, err := r.BaseFolder(o.Base)
	if err != nil {
		return nil, err
	}
	if o.Digest != nil {
		if err := r.CheckBase(dir, o.Digest); err != nil {
			return nil, err
		}
	}
	c := backbone.Config{Path: dir}
	if dir == "" {
		c.Preset = r.Model.Preset
	}
	base, err := backbone.Load(c, r.Seed)
	if err != nil {
		return nil, err
	}
	merged, err := hub.OpenMerged(r.dir)
	if err == nil && len(merged) != len(r.MergedDigests) {
		err = fmt.Errorf("checkpoint %s carries %d merged adapters, its run has %d", r.dir, len(merged), len(r.MergedDigests))
	}
	if err == nil {
		err = base.Merge(merged)
	}
	if err != nil {
		return nil, errors.Join(err, base.Close())
	}
	return base, nil
}

// CheckBase compares an adapter's base folder with the one that its run began with. A preset ("") is what its seed
// makes.
func (r *Run) CheckBase(folder string, digest func(folder string) (string, error)) error {
	if folder == "" || r.BaseDigest == "" {
		return nil
	}
	got, err := digest(folder)
	if err == nil && got != r.BaseDigest {
		err = fmt.Errorf("the base %s has the digest %.16s, the run began with %.16s: it is not the model that was trained", folder, got, r.BaseDigest)
	}
	return err
}

// Merged opens the weights of a run's adapter over its base, merged, and the architecture.
func (r *Run) Merged(o Options) (backbone.Architecture, *hub.Merged, error) {
	base, err := r.base(o)
	if err != nil {
		return backbone.Architecture{}, nil, fmt.Errorf("checkpoint %s is an adapter over its base: %w", r.dir, err)
	}
	weights, err := base.Weights()
	if err != nil {
		return base.Architecture, nil, errors.Join(err, base.Close())
	}
	adapter, err := hub.OpenAdapter(r.dir)
	if err != nil {
		return base.Architecture, nil, errors.Join(err, base.Close())
	}
	merged, err := adapter.Over(weights)
	if err != nil {
		return base.Architecture, nil, errors.Join(err, adapter.Close(), base.Close())
	}
	return base.Architecture, merged, nil
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
	r := &Run{Manifest: m, Spec: state.Spec, Prompts: map[string]string{}, dir: dir}
	if err := r.parse(); err != nil {
		return nil, fmt.Errorf("%s: spec: %w", path, err)
	}
	if r.History, err = readHistory(dir); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return r, nil
}

// parse reads the trainer's settings and how the texts were written.
func (r *Run) parse() error {
	if len(r.Spec) == 0 {
		return errors.New("the checkpoint keeps none")
	}
	var spec struct {
		Trainer *trainer.Config // without the model's path: a run is known by its content
		Model   string          `json:"model_digest"`
		Merged  []string        `json:"merged_digests"`
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
	r.BaseDigest, r.MergedDigests = spec.Model, spec.Merged
	for name, text := range map[string]string{"query": spec.Prompt.Query, "document": spec.Prompt.Document} {
		if text != "" && text != data.NoInstruction {
			r.Prompts[name] = text + ": " // as package data writes an instruction
		}
	}
	return nil
}
