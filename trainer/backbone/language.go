package backbone

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// LanguageBackward returns the loss sum_p Weight[p] * CE(p) of a prediction over the batch, whose inputs replace the
// texts' tokens, and writes its gradient to grad [P]. The model must have been made with Options.Head.
func (m *Model) LanguageBackward(batch Batch, p Prediction, grad []float32) (float64, error) {
	if len(grad) != len(m.parameters) || len(p.Target) != len(p.Position) || len(p.Weight) != len(p.Position) {
		return 0, fmt.Errorf("model: gradient of %d values, want %d; %d positions, %d targets, %d weights, want as many of each",
			len(grad), len(m.parameters), len(p.Position), len(p.Target), len(p.Weight))
	}
	if len(p.Position) == 0 {
		clear(grad)
		return 0, nil
	}
	if err := m.hasHead(); err != nil {
		return 0, err
	}
	if err := m.fill(batch, &p); err != nil {
		return 0, err
	}
	loss, err := m.once(kind{result: language, attention: m.attention(batch.Training), dropout: batch.Training})
	if err != nil {
		return 0, err
	}
	return float64(loss[0]), m.dev.Read(engine.Bytes(grad), m.grad)
}

// TokenLosses returns the unweighted cross-entropy of each term [P].
func (m *Model) TokenLosses(batch Batch, p Prediction) ([]float32, error) {
	if err := m.hasHead(); err != nil {
		return nil, err
	}
	if len(p.Target) != len(p.Position) {
		return nil, fmt.Errorf("model: %d positions, %d targets", len(p.Position), len(p.Target))
	}
	if len(p.Position) == 0 {
		return nil, nil
	}
	p.Weight = nil
	if err := m.fill(batch, &p); err != nil {
		return nil, err
	}
	return m.once(kind{result: losses, attention: m.attention(batch.Training)})
}

// Logits returns the head on the states of some packed positions, [len(positions), Vocab].
func (m *Model) Logits(batch Batch, positions []int32) ([]float32, error) {
	if err := m.hasHead(); err != nil {
		return nil, err
	}
	if len(positions) == 0 {
		return nil, nil
	}
	if err := m.fill(batch, &Prediction{Position: positions}); err != nil {
		return nil, err
	}
	return m.once(kind{result: logits, attention: m.attention(batch.Training)})
}

// Hidden returns the states after the final norm, [T, D].
func (m *Model) Hidden(batch Batch) ([]float32, error) {
	if err := m.fill(batch, nil); err != nil {
		return nil, err
	}
	return m.once(kind{result: hidden, attention: m.attention(batch.Training)})
}

func (m *Model) hasHead() error {
	if _, ok := m.weights[m.headKey()]; !ok {
		return fmt.Errorf("model: it was made without its head (%s)", headName)
	}
	return nil
}
