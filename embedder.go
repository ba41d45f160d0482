package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/tokenize"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// embedder is a model that embeds, from a checkpoint of ours or any Hugging Face folder.
type embedder struct {
	*backbone.Model
	folder string
	name   string // for people
	config backbone.Config
	prompt prompt // how the texts of its training were written
	tok    *tokenize.Tokenizer
}

// embedderOptions are what a user says otherwise than the checkpoint; "" leaves it.
type embedderOptions struct {
	base      string // where the base of an adapter is
	attention string
	pooling   string
}

// openEmbedder loads the newest sound checkpoint of path, or the model in it.
func openEmbedder(ctx context.Context, path string, dev engine.Device, o embedderOptions, log *slog.Logger) (*embedder, error) {
	folder, err := soundFolder(ctx, path, log)
	if err != nil {
		return nil, err
	}
	e := &embedder{folder: folder, name: filepath.Base(filepath.Clean(path)), prompt: prompt{MaxLength: 512}}
	if e.tok, err = tokenize.Open(folder); err != nil {
		return nil, err
	}
	snapshot, was, err := readCheckpoint(ctx, folder)
	if err != nil {
		return nil, err
	}
	e.config = backbone.Config{Path: folder}
	if snapshot != nil {
		e.name = fmt.Sprintf("%s, step %d", snapshot.Run, snapshot.Step)
		e.config, e.prompt = was.Trainer.Model, was.Prompt
		switch {
		case snapshot.Adapter == nil:
			e.config.Path, e.config.Preset, e.config.LoRA = folder, "", nil
		case o.base != "":
			e.config.Path, e.config.Preset = o.base, ""
		case e.config.Preset == "":
			e.config.Path = snapshot.Adapter.Base
		}
	}
	if o.attention != "" {
		e.config.Attention, e.config.EvalAttention = o.attention, ""
	}
	if o.pooling != "" {
		e.config.Pooling = o.pooling
	}
	return e, e.load(snapshot, was, dev, log)
}

// load makes the model on a device; of an adapter, its base and the adapter's parameters.
func (e *embedder) load(snapshot *checkpoints.Snapshot, was settings, dev engine.Device, log *slog.Logger) error {
	adapter := snapshot != nil && snapshot.Adapter != nil
	if adapter {
		if err := checkBase(was, e.config.Path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the base of the adapter in %s is not where it was; --base FOLDER says where it is: %w", e.folder, err)
		} else if err != nil {
			log.Warn("the base differs from the one that the adapter was trained on", "error", err)
		}
	}
	base, err := backbone.Load(e.config, was.Trainer.Seed)
	if err != nil {
		return err
	}
	defer base.Close()
	if e.prompt.MaxLength > base.Architecture.MaxPositions && base.Architecture.MaxPositions > 0 {
		e.prompt.MaxLength = base.Architecture.MaxPositions
	}
	if rows := base.Architecture.Vocab; e.tok.Size() > rows {
		return fmt.Errorf("the tokenizer of %s has %d ids, the model's embedding table %d rows", e.folder, e.tok.Size(), rows)
	}
	if e.Model, err = backbone.New(base, dev, e.config, backbone.Options{Seed: was.Trainer.Seed}); err != nil || !adapter {
		return err
	}
	params := e.Params()
	for i, p := range params {
		if i >= len(snapshot.Tensors) || snapshot.Tensors[i].Name != p.Name {
			return fmt.Errorf("checkpoint %s: tensor %d is not %s: it is of another model", e.folder, i, p.Name)
		}
	}
	if len(params) != len(snapshot.Tensors) || len(e.Parameters()) != len(snapshot.Parameters) {
		return fmt.Errorf("checkpoint %s: %d parameters in %d tensors, the model has %d in %d", e.folder,
			len(snapshot.Parameters), len(snapshot.Tensors), len(e.Parameters()), len(params))
	}
	copy(e.Parameters(), snapshot.Parameters)
	return e.Updated()
}

// settings are those of a run, kept in its checkpoints, that say how to embed with them.
type settings struct {
	Trainer trainer.Config `json:"trainer"`      // without Model.Path
	Model   string         `json:"model_digest"` // modelDigest of the folder that the run began with; "" = a preset
	Prompt  prompt         `json:"prompt"`
}

// readCheckpoint reads a folder completely if it is a checkpoint of ours; snapshot is nil if it is none.
func readCheckpoint(ctx context.Context, folder string) (*checkpoints.Snapshot, settings, error) {
	var was settings
	if _, err := os.Stat(filepath.Join(folder, checkpoints.ManifestName)); errors.Is(err, fs.ErrNotExist) {
		return nil, was, nil
	}
	s, err := checkpoints.Load(ctx, folder)
	if err != nil {
		return nil, was, err
	}
	if err := json.Unmarshal(s.Spec, &was); err != nil {
		return nil, was, fmt.Errorf("checkpoint %s: settings of its run: %w", folder, err)
	}
	return s, was, nil
}

// soundFolder is modelFolder that reads the checkpoints of a folder: the newest one that is intact is used, damaged
// ones before it are named.
func soundFolder(ctx context.Context, path string, log *slog.Logger) (string, error) {
	dir, err := seriesFolder(path)
	if err != nil || dir == "" {
		return path, err
	}
	series := &checkpoints.Series{Store: checkpoints.NewLocal(dir), Log: log}
	entry, damaged, err := series.Newest(ctx, "", nil)
	for _, d := range damaged {
		log.Warn("a damaged checkpoint is left out", "error", d)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", dir, errors.Join(append([]error{err}, damaged...)...))
	}
	return filepath.Join(dir, entry.Name), nil
}

// seriesFolder returns the folder of checkpoints that path is or has, "" if path is a model's folder or a checkpoint.
func seriesFolder(path string) (string, error) {
	for _, name := range []string{checkpoints.ModelConfigName, checkpoints.ManifestName} {
		if _, err := os.Stat(filepath.Join(path, name)); err == nil {
			return "", nil
		}
	}
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	for _, dir := range []string{path, filepath.Join(path, "checkpoints")} {
		if found, err := filepath.Glob(filepath.Join(dir, "step-*")); err == nil && len(found) > 0 {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%s is neither a model's folder (config.json), nor a checkpoint, nor a folder of checkpoints", path)
}

// checkBase compares an adapter's base folder with the one that its run began with.
func checkBase(was settings, path string) error {
	if path == "" {
		return nil // a preset, which its seed makes
	}
	got, err := modelDigest(path)
	if err != nil {
		return err
	}
	if got != was.Model {
		return fmt.Errorf("the base %s has digest %.16s, the run began with %.16s", path, got, was.Model)
	}
	return nil
}

// embedSuite returns the embeddings of a suite in slot order, [Q+D, D].
func (e *embedder) embedSuite(ctx context.Context, suite *data.Suite, progress func(done, all int64)) ([]float32, error) {
	header := suite.Header()
	width := e.Width()
	rows := make([]float32, header.Slots*width)
	var done, all int64
	for _, n := range header.Tokens {
		all += int64(n)
	}
	for i := range suite.Shards() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		shard, err := suite.Shard(i)
		if err != nil {
			return nil, err
		}
		part, _, err := e.Embed(backbone.Batch{Texts: shard.Texts}, 0)
		if err != nil {
			return nil, fmt.Errorf("suite %s, shard %d: %w", suite.Name, i, err)
		}
		for j, text := range shard.Texts {
			copy(rows[int(text.Slot)*width:], part[j*width:(j+1)*width])
		}
		done += int64(header.Tokens[i])
		progress(done, all)
	}
	return rows, nil
}
