package backbone

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// Activations are what a forward pass left for the backward pass of the same batch and parameters.
type Activations struct {
	m     *Model
	p     *program
	frame *engine.Frame
	spent bool // a backward pass has run over them
}

// Bytes returns the memory they hold.
func (a *Activations) Bytes() int64 { return a.frame.Arena().Bytes() }

// Free gives their memory back to the model. A second Free does nothing.
func (a *Activations) Free() {
	if a.frame != nil {
		a.m.giveBack(a.p, a.frame)
		a.frame = nil
	}
}

// kind says how texts are embedded in training, or outside of it.
func (m *Model) kind(r result, training bool) kind {
	return kind{result: r, attention: m.attention(training), dropout: training, raw: training && m.options.Raw}
}

// Embed returns rows [len(batch.Texts), D], which the caller may keep; unit ones, but for training with Options.Raw. With keep > 0, activations of at most that
// many bytes may come with them for EmbedBackward; nil if there are none. The rows have the same bits either way.
func (m *Model) Embed(batch Batch, keep int64) ([]float32, *Activations, error) {
	k := m.kind(embeddings, batch.Training)
	if err := m.fill(batch, nil); err != nil {
		return nil, nil, err
	}
	if keep > 0 {
		a, err := m.forward(k, keep)
		if err != nil {
			return nil, nil, err
		}
		if a != nil {
			rows, err := m.copyOf(a.frame.Output(0, 0))
			return rows, a, err
		}
	}
	rows, err := m.once(k)
	return rows, nil, err
}

// forward runs the first stage of the gradients' program, if it fits, and keeps its frame.
func (m *Model) forward(k kind, keep int64) (*Activations, error) {
	k.result = gradients
	p, err := m.program(k, m.pack.extents)
	if err != nil {
		return nil, err
	}
	if p.Bytes() > keep {
		return nil, nil
	}
	f, err := m.frame(p)
	if err != nil {
		return nil, err
	}
	a := &Activations{m: m, p: p, frame: f}
	if a.Bytes() > keep { // an arena larger than the program
		a.Free()
		return nil, nil
	}
	if err := f.Run(0); err != nil {
		a.Free()
		return nil, err
	}
	return a, nil
}

// EmbedBackward writes the gradient of sum(E * dE) over the batch's rows to grad [P]; dE [len(batch.Texts), D]. With
// activations of the same batch the forward pass is skipped; the bits are the same. A second backward pass over
// the same activations runs the forward pass again: the first one takes their place.
func (m *Model) EmbedBackward(batch Batch, dE, grad []float32, a *Activations) error {
	if len(dE) != len(batch.Texts)*m.arch.Width || len(grad) != len(m.parameters) {
		return fmt.Errorf("model: dE of %d and gradient of %d values, want %d and %d", len(dE), len(grad),
			len(batch.Texts)*m.arch.Width, len(m.parameters))
	}
	if a == nil {
		if err := m.fill(batch, nil); err != nil {
			return err
		}
		var err error
		k := m.kind(gradients, batch.Training)
		if a, err = m.forward(k, 1<<62); err != nil {
			return err
		}
		defer a.Free()
	}
	if a.spent {
		if err := a.frame.Run(0); err != nil {
			return err
		}
	}
	a.spent = true
	if err := a.frame.Set("dE", engine.Bytes(dE)); err != nil {
		return err
	}
	if err := a.frame.Run(1); err != nil {
		return err
	}
	return m.dev.Read(engine.Bytes(grad), m.grad)
}

// once runs a program of one stage and returns its first output.
func (m *Model) once(k kind) ([]float32, error) {
	p, err := m.program(k, m.pack.extents)
	if err != nil {
		return nil, err
	}
	f, err := m.frame(p)
	if err != nil {
		return nil, err
	}
	defer m.giveBack(p, f)
	if err := f.Run(0); err != nil {
		return nil, err
	}
	return m.copyOf(f.Output(0, 0))
}

func (m *Model) copyOf(t engine.Tensor) ([]float32, error) {
	out := make([]float32, t.Elements())
	return out, m.dev.Read(engine.Bytes(out), t)
}
