package backbone

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
)

// adapt merges config's adapters into the base's weights, and opens the one that training continues from. A checkpoint
// whose run had merged adapters itself stands for those too, in their order.
func (b *Base) adapt(c Config) error {
	for _, dir := range c.Merge {
		chain, err := hub.OpenChain(dir)
		if err != nil {
			return fmt.Errorf("model.merge: %w", err)
		}
		if err := b.Merge(chain); err != nil {
			return fmt.Errorf("model.merge: %w", err)
		}
	}
	if c.Adapter == "" {
		return nil
	}
	if c.LoRA == nil {
		return fmt.Errorf("model.adapter: %s continues only with model.lora; model.merge takes it into the weights", c.Adapter)
	}
	chain, err := hub.OpenChain(c.Adapter)
	if err != nil {
		return fmt.Errorf("model.adapter: %w", err)
	}
	b.initial = chain[len(chain)-1]
	if err := b.Merge(chain[:len(chain)-1]); err != nil {
		return fmt.Errorf("model.adapter: %w", err)
	}
	if err := b.Architecture.agrees(c.LoRA, b.initial); err != nil {
		return fmt.Errorf("model.adapter: %s: %w", filepath.Base(c.Adapter), err)
	}
	return nil
}

// Merge puts adapters over the weights, one after another; the base closes them.
func (b *Base) Merge(adapters []*hub.Adapter) error {
	for i, a := range adapters {
		weights, err := b.Weights()
		if err != nil {
			return errors.Join(err, hub.CloseAll(adapters[i:]))
		}
		merged, err := a.Over(weights)
		if err != nil {
			return errors.Join(err, hub.CloseAll(adapters[i:]))
		}
		b.source, b.merged = merged, append(b.merged, a)
	}
	return nil
}

// Merged returns the adapters that were merged into the base, in their order. They are the base's.
func (b *Base) Merged() []*hub.Adapter { return b.merged }

// agrees compares an adapter that training is to continue from with the one that the run describes: what is adapted,
// ranks and scales. The error lists what differs, under the keys that say otherwise.
func (a *Architecture) agrees(c *LoRAConfig, adapter *hub.Adapter) error {
	if whole := adapter.Whole(); len(whole) > 0 {
		return fmt.Errorf("it stores %s whole, which does not train on; model.merge takes it into the weights", abbreviate(whole))
	}
	want := map[string]bool{}
	parts := map[string]tensor{} // A of every module, by path
	for _, g := range a.adapters(c) {
		for _, t := range g.members {
			if path, ok := strings.CutSuffix(t.name, ".lora_A.weight"); ok {
				parts[modulePath(path)], want[modulePath(path)] = t, true
			}
		}
	}
	var ranks, scales, missing, extra []string
	for _, m := range adapter.Modules() {
		t, ok := parts[m.Path]
		if !ok {
			extra = append(extra, m.Path)
			continue
		}
		delete(want, m.Path)
		if t.shape[0] != m.Rank {
			ranks = append(ranks, fmt.Sprintf("%s has rank %d, the run gives it %d", m.Path, m.Rank, t.shape[0]))
		} else if t.shape[1] != m.In {
			ranks = append(ranks, fmt.Sprintf("%s takes %d values, the model's linear %d", m.Path, m.In, t.shape[1]))
		} else if _, _, s := c.Module(m.Path); math.Abs(s-m.Scale) > 1e-9*s {
			scales = append(scales, fmt.Sprintf("%s is scaled by %g, the run scales by %g", m.Path, m.Scale, s))
		}
	}
	for path := range want {
		missing = append(missing, path)
	}
	slices.Sort(missing)
	var errs []error
	for _, l := range []struct {
		what  string
		names []string
	}{
		{"model.lora.rank", ranks},
		{"model.lora.alpha or rslora", scales},
		{"model.lora.targets: the adapter lacks", missing},
		{"model.lora.targets: the run does not adapt, but the adapter does,", extra},
	} {
		if len(l.names) > 0 {
			errs = append(errs, fmt.Errorf("%s: %s", l.what, abbreviate(l.names)))
		}
	}
	return errors.Join(errs...)
}

// continueFrom puts the values of the initial adapter into a model's parameters.
func (b *Base) continueFrom(m *Model) error {
	for _, p := range m.params {
		name, last := strings.TrimSuffix(p.Name, ".lora_A.weight"), ".lora_A.weight"
		if name == p.Name {
			name, last = strings.TrimSuffix(p.Name, ".lora_B.weight"), ".lora_B.weight"
		}
		down, up, err := b.initial.Values(modulePath(name))
		if err != nil {
			return fmt.Errorf("model.adapter: %w", err)
		}
		values := down
		if last == ".lora_B.weight" {
			values = up
		}
		size := 1
		for _, n := range p.Shape {
			size *= n
		}
		if len(values) != size {
			return fmt.Errorf("model.adapter: %s has %d values, the model %d", p.Name, len(values), size)
		}
		copy(m.parameters[p.Offset:], values)
	}
	return nil
}

// modulePath is the path of a module as hub.Module has it.
func modulePath(name string) string {
	name = strings.TrimPrefix(name, "base_model.model.")
	for strings.HasPrefix(name, "model.") {
		name = strings.TrimPrefix(name, "model.")
	}
	return name
}
