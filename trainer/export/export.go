// Package export writes a checkpoint as a folder of another library, and reads it back before it says that it is done.
package export

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// Formats are the values of Options.Format.
var Formats = []string{hub.PEFTFormat, hub.SentenceFormat, hub.ModelFormat}

// Options say what is written where.
type Options struct {
	Checkpoint string // checkpoint, or a folder of some: the newest
	Format     string
	Out        string                                                 // folder to be made
	Force      bool                                                   // replaces what is there
	Base       string                                                 // folder of an adapter's base, if it is not where the run had it
	BaseName   string                                                 // base_model_name_or_path to write, such as a name on the hub; "" = the base's folder
	Digest     func(folder string) (string, error)                    // of a base's folder, compared with the run's; nil: not compared
	Scores     func(checkpoint string, step int64) map[string]float64 // results for the card, besides the checkpoint's own; nil: none
	DType      string                                                 // float32 (default) | bfloat16
	Shard      int64                                                  // most bytes of a file of weights; 0 = 5 GB
	Version    string                                                 // of this program
}

// Result is what was written and how it compares.
type Result struct {
	Dir        string
	Checkpoint string
	Texts      int
	Difference float64 // largest of all values of the texts' embeddings
	Bound      float64 // that it must not pass
	Files      []string
}

// Bounds of the self-check: of float32 both sides round alike up to the order of sums; bfloat16 keeps 8 bits of every weight.
const (
	exactBound   = 1e-5
	roundedBound = 2e-2
)

// Export writes the folder beside Out, reads it back, compares embeddings with those of the checkpoint whose adapters
// are not merged, and only then gives it its name.
func Export(ctx context.Context, dev engine.Device, o Options) (*Result, error) {
	if !slices.Contains(Formats, o.Format) {
		return nil, fmt.Errorf("format: %q, want one of %s", o.Format, strings.Join(Formats, ", "))
	}
	if !slices.Contains([]string{"", "float32", "bfloat16"}, o.DType) {
		return nil, fmt.Errorf("dtype: %q, want float32 or bfloat16", o.DType)
	}
	if entries, err := os.ReadDir(o.Out); err == nil && len(entries) > 0 && !o.Force {
		return nil, fmt.Errorf("export to %s: the folder is not empty (force replaces it)", o.Out)
	}
	x := &exporter{o: o, dev: dev}
	defer x.close()
	if err := x.open(ctx); err != nil {
		return nil, err
	}
	r := &Result{Dir: o.Out, Checkpoint: x.reference.Dir, Bound: exactBound}
	if o.DType == "bfloat16" && o.Format != hub.PEFTFormat {
		r.Bound = roundedBound
	}
	parent := filepath.Dir(filepath.Clean(o.Out))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".exporting-*")
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := errors.Join(os.Chmod(tmp, 0o755), x.write(ctx, tmp)); err != nil {
		return nil, fmt.Errorf("export %s as %s: %w", x.reference.Dir, o.Format, err)
	}
	if err := x.check(ctx, tmp, r); err != nil {
		return nil, fmt.Errorf("export %s as %s: self-check: %w", x.reference.Dir, o.Format, err)
	}
	if err := os.WriteFile(filepath.Join(tmp, hub.CardName), x.card(r).Text(), 0o644); err != nil {
		return nil, err
	}
	if r.Files, err = list(tmp); err != nil {
		return nil, err
	}
	return r, replace(tmp, o.Out)
}

type exporter struct {
	o         Options
	dev       engine.Device
	reference *encode.Encoder // the checkpoint, its adapters beside the weights
	run       *encode.Run
	home      string              // the base's folder of a LoRA run, "" of a preset
	weights   safetensors.Tensors // merged
	sentence  hub.Sentence
	causal    bool
	own       bool   // an adapter's folder has a config.json
	stacked   int    // adapters that the written one is made of; 0 = its own
	ships     bool   // and its base: it exists nowhere else
	config    []byte // config.json of the checkpoint
}

func (x *exporter) close() {
	if x.weights != nil {
		_ = x.weights.Close() // read only
	}
	if x.reference != nil {
		_ = x.reference.Close()
	}
}

func (x *exporter) open(ctx context.Context) error {
	var err error
	if x.reference, err = encode.Open(ctx, x.o.Checkpoint, x.dev, encode.Options{Base: x.o.Base, Digest: x.o.Digest, Unmerged: true}); err != nil {
		return err
	}
	ref := x.reference
	if ref.Kind != encode.Checkpoint {
		return fmt.Errorf("export %s: a %s; checkpoints of this program are exported", ref.Dir, ref.Kind)
	}
	if err := checkpoints.Verify(ctx, ref.Dir, checkpoints.Hashers{}).Err(); err != nil {
		return fmt.Errorf("export %s: %w", ref.Dir, err)
	}
	if x.run, err = encode.ReadRun(ref.Dir); err != nil {
		return err
	}
	if x.config, err = os.ReadFile(filepath.Join(ref.Dir, checkpoints.ModelConfigName)); err != nil {
		return err
	}
	x.causal = !ref.Architecture().Bidirectional
	if ref.Attention != "" {
		x.causal = ref.Attention == backbone.Causal
	}
	x.sentence = hub.Sentence{
		Pooling: ref.Pooling, Dimension: ref.Width(), PoolPrompt: ref.PoolPrompt, Normalize: true, MaxLength: ref.MaxLength, Prompts: ref.Prompts,
	}
	if x.run.Model.LoRA == nil {
		if x.o.Format == hub.PEFTFormat {
			return fmt.Errorf("export %s: the run trained all parameters and has no adapter; --format %s or %s", ref.Dir, hub.SentenceFormat, hub.ModelFormat)
		}
		x.weights, err = safetensors.OpenFolder(ref.Dir)
		return err
	}
	if x.home, err = x.run.BaseFolder(x.o.Base); err != nil {
		return err
	}
	x.ships = x.home == "" || x.o.BaseName == "" && isCheckpoint(x.home)
	_, merged, err := x.run.Merged(encode.Options{Base: x.o.Base})
	if err != nil {
		return err
	}
	x.weights = merged
	return nil
}

// isCheckpoint reports whether a base is what an earlier run has made, and no model that others have too.
func isCheckpoint(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, checkpoints.ManifestName))
	return err == nil
}

func list(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		out = append(out, filepath.ToSlash(name))
		return err
	})
	return out, err
}

// replace gives tmp the name out; what was there goes away.
func replace(tmp, out string) error {
	old := tmp + "-old"
	if _, err := os.Stat(out); err == nil {
		if err := os.Rename(out, old); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	if err := os.Rename(tmp, out); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return os.RemoveAll(old)
}
