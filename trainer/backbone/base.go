package backbone

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// Base holds the weights that a model starts from. The models of one process share it: a weight that does not train
// is on the device once.
type Base struct {
	Architecture Architecture
	dir          string              // "" for a preset
	source       safetensors.Tensors // nil: random weights
	bare         bool                // names without "model."
	seed         uint64
	initial      *hub.Adapter   // what training continues from; nil: a new adapter
	merged       []*hub.Adapter // into source

	mu     sync.Mutex
	frozen map[string]engine.Tensor // by group
	watch  map[string]*watched      // likewise; nil: not asked for
}

// Load opens the weights of config's folder, or those of its preset, with the adapters of config.Merge merged into them,
// and config.Adapter. The folder's tensors are compared with the architecture here; their values are read when a model
// is made.
func Load(c Config, seed uint64) (*Base, error) {
	b, err := load(c, seed)
	if err != nil {
		return nil, err
	}
	if err := b.adapt(c); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func load(c Config, seed uint64) (*Base, error) {
	switch {
	case c.Path != "" && c.Preset != "":
		return nil, errors.New("model: path and preset are both given, want one")
	case c.Preset != "":
		a, err := preset(c.Preset)
		if err != nil {
			return nil, err
		}
		return &Base{Architecture: a, seed: seed, frozen: map[string]engine.Tensor{}}, nil
	case c.Path == "":
		return nil, errors.New("model: neither path nor preset is given")
	}
	a, err := ReadArchitecture(c.Path)
	if err != nil {
		return nil, err
	}
	source, err := safetensors.OpenFolder(c.Path)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", c.Path, gguf(c.Path, err))
	}
	b := &Base{Architecture: a, dir: c.Path, source: source, seed: seed, frozen: map[string]engine.Tensor{}}
	if err := b.check(); err != nil {
		return nil, errors.Join(fmt.Errorf("model %s: %w", c.Path, err), source.Close())
	}
	return b, nil
}

// Close closes the files. Models that were made stay usable.
func (b *Base) Close() error {
	var errs []error
	if b.initial != nil {
		errs = append(errs, b.initial.Close())
	}
	if b.source != nil {
		errs = append(errs, b.source.Close())
	}
	return errors.Join(errs...)
}

// check names what is missing, misshaped or left over. The head may be missing (an encoder has none) or there twice
// (tied, yet stored).
func (b *Base) check() error {
	a := &b.Architecture
	if _, ok := b.source.Info(a.name("model.embed_tokens.weight")); !ok {
		_, b.bare = b.source.Info(strings.TrimPrefix(a.name("model.embed_tokens.weight"), "model."))
	}
	var missing, misshaped, extra []string
	known := map[string]bool{b.disk(a.name(headName)): true, a.name(headName): true}
	for _, g := range a.groups(true) {
		for _, t := range g.members {
			name := b.disk(t.name)
			known[name] = true
			info, ok := b.source.Info(name)
			switch {
			case !ok && g.key == "head":
			case !ok:
				missing = append(missing, fmt.Sprintf("%s (want %v)", name, t.shape))
			case !slices.Equal(info.Shape, t.shape):
				misshaped = append(misshaped, fmt.Sprintf("%s is %v, want %v", name, info.Shape, t.shape))
			}
		}
	}
	for _, name := range b.source.Names() {
		if !known[name] && !strings.HasSuffix(name, "rotary_emb.inv_freq") {
			extra = append(extra, name)
		}
	}
	var errs []error
	for _, l := range []struct {
		what  string
		names []string
	}{{"missing", missing}, {"of another shape", misshaped}, {"unknown", extra}} {
		if n := len(l.names); n > 0 {
			errs = append(errs, fmt.Errorf("%d tensors are %s: %s", n, l.what, abbreviate(l.names)))
		}
	}
	return errors.Join(errs...)
}

func abbreviate(names []string) string {
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

func (b *Base) disk(name string) string {
	if b.bare {
		return strings.TrimPrefix(name, "model.")
	}
	return name
}

// read writes a group's initial values to dst, members one after another.
func (b *Base) read(g group, dst []float32) error {
	if b.source == nil {
		b.random(g, dst)
		return nil
	}
	for _, t := range g.members {
		n := t.size()
		got, err := b.source.Float32(dst[:0:n], b.disk(t.name))
		if err != nil {
			return fmt.Errorf("model: %w", err)
		}
		copy(dst[:n], got)
		dst = dst[n:]
		if files, ok := b.source.(safetensors.Parts); ok {
			files.Drop(b.disk(t.name))
		}
	}
	return nil
}

// random initialises a preset: norms 1, biases 0, matrices uniform with standard deviation initRange, those that
// write to the residual stream smaller by sqrt(2 layers) (Radford et al. 2019). Uniform numbers are exact on
// every machine; normal ones would need a logarithm.
func (b *Base) random(g group, dst []float32) {
	a := &b.Architecture
	switch {
	case strings.HasSuffix(g.key, ".bias"):
		clear(dst)
	case len(g.shape) == 1:
		for i := range dst {
			dst[i] = 1
		}
	default:
		std := initRange
		if g.key == "embed" {
			std = 1 / math.Sqrt(float64(a.Width))
		}
		if strings.HasSuffix(g.key, ".o") || strings.HasSuffix(g.key, ".down") {
			std /= math.Sqrt(float64(2 * a.Layers))
		}
		index := slices.IndexFunc(a.groups(true), func(o group) bool { return o.key == g.key })
		uniform(dst, b.seed, siteWeights+uint32(index), std*math.Sqrt(3))
	}
}

// initRange is the standard deviation of the random matrices of a preset, but for the embedding's, which is 1/sqrt(width):
// tied, it gives logits of unit variance. So the blocks add little to the residual stream at first and the model pools
// words (nDCG@10 on the quickstart at random start: 0.39; with 0.02 for all matrices 0.22, with 0.05 for all 0.12).
const initRange = 0.02

// Presets are the architectures that need no files.
var presets = map[string]Architecture{
	"tiny-diffusion": tiny(true),
	"tiny-causal":    tiny(false),
}

// tiny is a Llama of 1 M parameters for the quickstart. Its vocabulary is that of the repository's own tokenizer
// (package data/tokenize/tiny).
func tiny(diffusion bool) Architecture {
	a := Architecture{
		Family: "llama", Width: 128, Layers: 2, Heads: 4, KV: 2, HeadDim: 32, FF: 384, Vocab: 4096, Eps: 1e-6,
		Tied: true, Bidirectional: diffusion, MaskToken: -1, MaxPositions: 512,
	}
	if diffusion {
		a.MaskToken = 1 // <|mask|>
	}
	a.Frequencies = presetFrequencies(a.HeadDim)
	return a
}

func preset(name string) (Architecture, error) {
	if a, ok := presets[name]; ok {
		return a, nil
	}
	var names []string
	for n := range presets {
		names = append(names, n)
	}
	slices.Sort(names)
	return Architecture{}, fmt.Errorf("model.preset: %q, want %s", name, strings.Join(names, " or "))
}
