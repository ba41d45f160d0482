package backbone

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// stored is a group of weights that lies in files, its members one after another, as an engine.Source.
type stored struct {
	files safetensors.Parts
	names []string
	sizes []int
	half  bool
}

// weights returns where a device can load a group from: the files, in parts, or the values, where they have to be
// computed (a preset's, or an adapter's merged into them).
func (b *Base) weights(g group) (engine.Source, error) {
	files, ok := b.source.(safetensors.Parts)
	if !ok {
		values := make([]float32, g.size())
		return computed(values), b.read(g, values)
	}
	s := &stored{files: files, half: true}
	for _, t := range g.members {
		name := b.disk(t.name)
		info, ok := files.Info(name)
		if !ok {
			return nil, fmt.Errorf("model: no tensor %q", name)
		}
		s.names, s.sizes = append(s.names, name), append(s.sizes, t.size())
		s.half = s.half && info.DType == safetensors.BF16
	}
	return s, nil
}

// Half implements engine.Source.
func (s *stored) Half() bool { return s.half }

// Values implements engine.Source.
func (s *stored) Values(dst []float32, first int) error { return across(s, dst, first, s.files.Part) }

// Halves implements engine.Source.
func (s *stored) Halves(dst []uint16, first int) error { return across(s, dst, first, s.files.Halves) }

// across reads elements first.. of the group into dst, which may reach over several members.
func across[E any](s *stored, dst []E, first int, part func(dst []E, name string, first int) error) error {
	for i, size := range s.sizes {
		if first < size && len(dst) > 0 {
			n := min(len(dst), size-first)
			if err := part(dst[:n], s.names[i], first); err != nil {
				return fmt.Errorf("model: %w", err)
			}
			dst, first = dst[n:], first+n
		}
		first -= size
	}
	return nil
}

// drop lets the pages of the files go.
func (s *stored) drop() {
	for _, name := range s.names {
		s.files.Drop(name)
	}
}

// computed are values that lie in memory.
type computed []float32

// Half implements engine.Source.
func (computed) Half() bool { return false }

// Values implements engine.Source.
func (c computed) Values(dst []float32, first int) error { copy(dst, c[first:]); return nil }

// Halves implements engine.Source.
func (computed) Halves([]uint16, int) error { return fmt.Errorf("model: computed values are float32") }

// share returns a group's weights on a device, loaded once for all models of the process. The embedding table is read by
// rows, and so is the head, by losses that never hold all logits.
func (b *Base) share(dev engine.Device, g group) (engine.Tensor, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t, ok := b.frozen[g.key]; ok {
		return t, nil
	}
	source, err := b.weights(g)
	if err != nil {
		return engine.Tensor{}, err
	}
	use := engine.Product
	if g.key == "embed" || g.key == "head" {
		use = engine.Rows
	}
	t, err := engine.Load(dev, source, use, g.shape...)
	if err != nil {
		return t, err
	}
	if s, ok := source.(*stored); ok {
		s.drop()
	}
	b.frozen[g.key] = t
	b.remember(dev, g.key, t)
	return t, nil
}
