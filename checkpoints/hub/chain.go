package hub

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Module is one adapted linear of an adapter: W [Out, In] += Scale B [Out, Rank] A [Rank, In].
type Module struct {
	Path          string // of the linear, without base_model.model. and without model.
	Rank, In, Out int
	Scale         float64
}

// Modules lists what an adapter adapts, by path.
func (a *Adapter) Modules() []Module {
	var out []Module
	for _, m := range a.modules {
		down, _ := a.tensors.Info(m.a)
		up, _ := a.tensors.Info(m.b)
		out = append(out, Module{Path: bare(m.path), Rank: m.rank, In: down.Shape[1], Out: up.Shape[0], Scale: m.scale})
	}
	slices.SortFunc(out, func(a, b Module) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// Values returns A [Rank, In] and B [Out, Rank] of a module of Modules.
func (a *Adapter) Values(path string) (down, up []float32, err error) {
	for _, m := range a.modules {
		if bare(m.path) == path {
			if down, err = a.tensors.Float32(nil, m.a); err == nil {
				up, err = a.tensors.Float32(nil, m.b)
			}
			return down, up, err
		}
	}
	return nil, nil, fmt.Errorf("adapter %s: no module %q", a.dir, path)
}

// Whole lists the tensors that the adapter stores as they are: modules_to_save and trained biases.
func (a *Adapter) Whole() []string {
	var out []string
	for path := range a.replaced {
		out = append(out, path)
	}
	slices.Sort(out)
	return out
}

// bare is a module's path in the encoder class: over the language model it begins with "model.".
func bare(path string) string {
	for strings.HasPrefix(path, "model.") {
		path = strings.TrimPrefix(path, "model.")
	}
	return path
}

// Dir returns the adapter's folder.
func (a *Adapter) Dir() string { return a.dir }

// Digest is the SHA-256 over what the adapter computes: the modules, their scales and values, and what it stores whole,
// whatever its files call the base.
func (a *Adapter) Digest() (string, error) {
	h := sha256.New()
	add := func(path, key string, scale float64) error {
		info, _ := a.tensors.Info(key)
		raw, err := a.tensors.Bytes(key)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %s %v %x %d\n", path, info.DType, info.Shape, math.Float64bits(scale), len(raw))
		h.Write(raw)
		return nil
	}
	modules := slices.Clone(a.modules)
	slices.SortFunc(modules, func(x, y module) int { return strings.Compare(bare(x.path), bare(y.path)) })
	for _, m := range modules {
		if err := errors.Join(add(bare(m.path)+" A", m.a, m.scale), add(bare(m.path)+" B", m.b, m.scale)); err != nil {
			return "", fmt.Errorf("adapter %s: %w", a.dir, err)
		}
	}
	for _, path := range a.Whole() {
		if err := add(path, a.replaced[path], 1); err != nil {
			return "", fmt.Errorf("adapter %s: %w", a.dir, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// A checkpoint whose run merged adapters into its base first carries them, so that it and the base are all that is
// needed: merged-0.json and merged-0.safetensors are the adapter_config.json and adapter_model.safetensors of the first.
func mergedNames(i int) (config, tensors string) {
	return fmt.Sprintf("merged-%d.json", i), fmt.Sprintf("merged-%d.safetensors", i)
}

// OpenChain opens the adapters that a folder stands for: those that its checkpoint carries, in the order in which they
// were merged into the base, and last the folder's own. Close each.
func OpenChain(dir string) ([]*Adapter, error) {
	out, err := OpenMerged(dir)
	if err != nil {
		return nil, err
	}
	last, err := OpenAdapter(dir)
	if err != nil {
		return nil, errors.Join(err, CloseAll(out))
	}
	return append(out, last), nil
}

// OpenMerged opens the adapters that a checkpoint's folder carries, in the order in which they were merged into its
// base; none of most folders.
func OpenMerged(dir string) ([]*Adapter, error) {
	var out []*Adapter
	for i := 0; ; i++ {
		config, tensors := mergedNames(i)
		if _, err := os.Stat(filepath.Join(dir, config)); errors.Is(err, fs.ErrNotExist) {
			return out, nil
		}
		a, err := openAdapter(dir, config, tensors)
		if err != nil {
			return nil, errors.Join(err, CloseAll(out))
		}
		out = append(out, a)
	}
}

// CloseAll closes adapters.
func CloseAll(adapters []*Adapter) error {
	var errs []error
	for _, a := range adapters {
		errs = append(errs, a.Close())
	}
	return errors.Join(errs...)
}

// MergedFiles returns the files by which a checkpoint carries adapters that were merged into its base.
func MergedFiles(adapters []*Adapter) (map[string][]byte, error) {
	out := map[string][]byte{}
	for i, a := range adapters {
		config, tensors := mergedNames(i)
		for name, from := range map[string]string{config: a.config, tensors: a.weights} {
			text, err := os.ReadFile(filepath.Join(a.dir, from))
			if err != nil {
				return nil, fmt.Errorf("adapter: %w", err)
			}
			out[name] = text
		}
	}
	return out, nil
}

// mergedNote is what adapter_config.json of a checkpoint adds to the name of the base if adapters were merged into it
// first: PEFT, which knows nothing of them, then looks for a model of that name, and says so, instead of computing
// other embeddings without a word.
const mergedNote = " with adapters merged into it: counterpoint export"

// OverMerged returns the name of a base into which adapters were merged.
func OverMerged(base string) string { return base + mergedNote }
