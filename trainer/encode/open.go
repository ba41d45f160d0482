package encode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data/tokenize"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// Open opens a model's folder on a device. The kind is told from the files: manifest.json (a checkpoint, whose files
// are compared with it), modules.json (sentence-transformers), adapter_config.json (PEFT), config.json (Hugging Face);
// a folder of checkpoints, or of a run, means its newest sound one.
func Open(ctx context.Context, path string, dev engine.Device, o Options) (*Encoder, error) {
	dir, err := checkpoints.Find(ctx, path, o.Log)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	e := &Encoder{Dir: dir, Settings: Settings{PoolPrompt: true, Normalize: true}}
	e.comparison, o.Compare = o.Compare, nil
	e.options = o
	if err := e.open(ctx, dev, o); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Encoder) open(ctx context.Context, dev engine.Device, o Options) error {
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(e.Dir, name))
		return err == nil
	}
	switch {
	case has(checkpoints.ManifestName) && has(checkpoints.StateName):
		return e.openCheckpoint(ctx, dev, o)
	case has(hub.ModulesName):
		return e.openSentence(dev, o)
	case !has(checkpoints.AdapterConfigName) && !has(checkpoints.ModelConfigName):
		return fmt.Errorf("model %s: neither a model's folder (%s, %s or %s) nor a checkpoint (%s), and no checkpoints in it", e.Dir,
			checkpoints.ModelConfigName, checkpoints.AdapterConfigName, hub.ModulesName, checkpoints.ManifestName)
	}
	e.Kind, e.Special = Folder, true
	if has(checkpoints.AdapterConfigName) {
		e.Kind = Adapter
	}
	home, err := e.openWeights(e.Dir, o)
	if err != nil {
		return err
	}
	if e.MaxLength, err = hub.TokenLimit(home); err != nil {
		return err
	}
	if n := e.base.Architecture.MaxPositions; e.MaxLength == 0 || n > 0 && n < e.MaxLength {
		e.MaxLength = n // an adapter's tokenizer may lie without a model's config.json
	}
	return e.start(dev, o, nil, 0)
}

// openCheckpoint opens a checkpoint as its run has trained it.
func (e *Encoder) openCheckpoint(ctx context.Context, dev engine.Device, o Options) error {
	e.Kind = Checkpoint
	run, err := ReadRun(e.Dir)
	if err != nil {
		return err
	}
	if err := run.CheckFiles(ctx, e.Dir); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	m := run.Model
	e.Attention = m.Evaluation()
	e.Pooling, e.PoolPrompt = m.Pooling, m.PoolPrompt == nil || *m.PoolPrompt
	e.MaxLength, e.Prompts = run.MaxLength, run.Prompts
	if m.LoRA == nil {
		if _, err := e.openWeights(e.Dir, o); err != nil {
			return err
		}
		return e.start(dev, o, nil, 0)
	}
	if e.tok, err = tokenize.Open(e.Dir); err != nil {
		return err
	}
	if e.over, err = run.BaseFolder(o.Base); err != nil {
		return fmt.Errorf("checkpoint %s is an adapter over its base: %w", e.Dir, err)
	}
	if o.Unmerged {
		if e.base, err = run.base(o); err != nil {
			return fmt.Errorf("checkpoint %s is an adapter over its base: %w", e.Dir, err)
		}
		lora := *m.LoRA
		lora.Dropout = 0
		if err := e.start(dev, o, &lora, run.Seed); err != nil {
			return err
		}
		return e.adapters()
	}
	a, merged, err := run.Merged(o)
	if err != nil {
		return err
	}
	if e.base, err = backbone.Open(a, merged, e.Dir); err != nil {
		return errors.Join(err, merged.Close())
	}
	return e.start(dev, o, nil, 0)
}

// adapters puts the checkpoint's adapters into the model's parameters.
func (e *Encoder) adapters() error {
	f, err := safetensors.Open(filepath.Join(e.Dir, checkpoints.AdapterName))
	if err != nil {
		return err
	}
	defer f.Close()
	all := e.model.Parameters()
	for _, p := range e.model.Params() {
		values, err := f.Float32(nil, p.Name)
		if err != nil {
			return err
		}
		if info, _ := f.Info(p.Name); fmt.Sprint(info.Shape) != fmt.Sprint(p.Shape) {
			return fmt.Errorf("%s: %s is %v, want %v", filepath.Join(e.Dir, checkpoints.AdapterName), p.Name, info.Shape, p.Shape)
		}
		copy(all[p.Offset:], values)
	}
	return e.model.Updated()
}

func (e *Encoder) openSentence(dev engine.Device, o Options) error {
	e.Kind, e.Special = Sentence, true
	s, err := hub.ReadSentence(e.Dir)
	if err != nil {
		return err
	}
	e.Pooling, e.PoolPrompt, e.Normalize, e.LowerCase = s.Pooling, s.PoolPrompt, s.Normalize, s.LowerCase
	e.MaxLength, e.Prompts, e.DefaultPrompt = s.MaxLength, s.Prompts, s.DefaultPrompt
	if _, err := e.openWeights(s.Model, o); err != nil {
		return err
	}
	if d := e.base.Architecture.Width; s.Dimension > 0 && s.Dimension != d {
		return fmt.Errorf("model %s: its pooling is of dimension %d, its states of %d", e.Dir, s.Dimension, d)
	}
	return e.start(dev, o, nil, 0)
}

// openWeights opens the weights and the tokenizer of a folder that transformers or PEFT would load, and returns the
// folder that the tokenizer is in: an adapter's may be its base's.
func (e *Encoder) openWeights(dir string, o Options) (string, error) {
	home := dir
	files, err := tokenize.ReadFiles(dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, checkpoints.AdapterConfigName)); err == nil {
		if home, err = e.openAdapter(dir, o.Base); err != nil {
			return "", err
		}
	} else if e.base, err = backbone.Load(backbone.Config{Path: dir}, 0); err != nil {
		return "", err
	}
	if files.Tokenizer == nil && files.Vocab == nil {
		dir = home
	}
	e.tok, err = tokenize.Open(dir)
	return dir, err
}

// openAdapter merges an adapter into its base, and returns the base's folder.
func (e *Encoder) openAdapter(dir, base string) (string, error) {
	adapter, err := hub.OpenAdapter(dir)
	if err != nil {
		return "", err
	}
	closing := func(err error) (string, error) { return "", errors.Join(err, adapter.Close()) }
	if base == "" {
		if base, err = adapter.BaseFolder(); err != nil {
			return closing(err)
		}
	}
	config := dir // an adapter's own config.json says with which attention it was trained
	if _, err := os.Stat(filepath.Join(dir, checkpoints.ModelConfigName)); err != nil {
		config = base
	}
	a, err := backbone.ReadArchitecture(config)
	if err != nil {
		return closing(err)
	}
	weights, err := safetensors.OpenFolder(base)
	if err != nil {
		return closing(fmt.Errorf("base of adapter %s: %w", dir, err))
	}
	merged, err := adapter.Over(weights)
	if err != nil {
		return closing(errors.Join(err, weights.Close()))
	}
	if e.base, err = backbone.Open(a, merged, base); err != nil {
		return "", errors.Join(err, merged.Close())
	}
	e.over = base
	return base, nil
}
