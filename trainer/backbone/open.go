package backbone

import (
	"bytes"
	"fmt"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// Open makes a base of weights that somebody else has opened, such as an adapter merged into a model. The tensors are
// compared with the architecture as Load does; name is used in errors. The base closes the source.
func Open(a Architecture, source safetensors.Tensors, name string) (*Base, error) {
	b := &Base{Architecture: a, source: source, frozen: map[string]engine.Tensor{}}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	return b, nil
}

// Weights returns the base's tensors as they are stored; those of a preset are made from its seed. They are the base's:
// who has them does not close them.
func (b *Base) Weights() (safetensors.Tensors, error) {
	if b.source != nil {
		return b.source, nil
	}
	var all []safetensors.Tensor
	for _, g := range b.Architecture.groups(true) {
		values := make([]float32, g.size())
		if err := b.read(g, values); err != nil {
			return nil, err
		}
		for _, t := range g.members {
			all = append(all, safetensors.Tensor{Name: t.name, Shape: t.shape, Values: values[:t.size()]})
			values = values[t.size():]
		}
	}
	var file bytes.Buffer
	if err := safetensors.Write(&file, all, nil); err != nil {
		return nil, fmt.Errorf("model: preset: %w", err)
	}
	return safetensors.Parse("preset", file.Bytes())
}
