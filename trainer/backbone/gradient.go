package backbone

import "github.com/counterpoint-ml/counterpoint/trainer/engine"

// Gradient returns the memory [P] in which the device computes gradients, where the host sees it, else nil. Passed to
// EmbedBackward or LanguageBackward as grad, it holds the result without a copy, until the next call.
func (m *Model) Gradient() []float32 {
	if host := m.dev.Host(m.grad); len(host) > 0 {
		return engine.View[float32](host)
	}
	return nil
}
