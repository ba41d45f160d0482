package trainer

import (
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// model is what a step asks of a backbone on a device. Everything that it computes is a function of the parameters
// and of its arguments alone. network implements it; tests have a smaller one.
type model interface {
	// Params returns the trainable tensors in the order in which Parameters has them.
	Params() []backbone.Param
	// Parameters returns the trainable parameters [P], shared: who writes them calls Updated before the next
	// computation.
	Parameters() []float32
	Updated() error
	// Width returns D, the length of an embedding.
	Width() int
	// MaskToken returns the id that masked diffusion puts in the place of a token, -1 if there is none.
	MaskToken() int32

	// Embed returns rows [len(batch.Texts), D], unit ones but for training with the explicit loss. With keep > 0, activations of at most that many bytes may
	// come with them for EmbedBackward; nil if there are none.
	Embed(batch backbone.Batch, keep int64) (rows []float32, a activations, err error)
	// EmbedBackward writes the gradient of sum(E * dE) over the batch's rows to grad [P]; dE [len(batch.Texts), D].
	// With activations of the same batch the forward pass is skipped; the bits are the same.
	EmbedBackward(batch backbone.Batch, dE, grad []float32, a activations) error
	// LanguageBackward returns the loss of the prediction over the batch, whose inputs replace the texts' tokens,
	// and writes its gradient to grad [P].
	LanguageBackward(batch backbone.Batch, p backbone.Prediction, grad []float32) (loss float64, err error)
}

// activations are what a forward pass left for the backward pass.
type activations interface {
	Bytes() int64
	Free()
}

// network is a backbone as a model.
type network struct{ *backbone.Model }

// Embed implements model.
func (n network) Embed(batch backbone.Batch, keep int64) ([]float32, activations, error) {
	rows, a, err := n.Model.Embed(batch, keep)
	if a == nil {
		return rows, nil, err
	}
	return rows, a, err
}

// EmbedBackward implements model.
func (n network) EmbedBackward(batch backbone.Batch, dE, grad []float32, a activations) error {
	kept, _ := a.(*backbone.Activations)
	return n.Model.EmbedBackward(batch, dE, grad, kept)
}

// layout says where each tensor of a model lies in its flat parameters, and which of them decay.
func layout(params []backbone.Param) (o fixed.Offsets, decay []bool) {
	sizes := make([]int, len(params))
	for i, p := range params {
		sizes[i] = 1
		for _, n := range p.Shape {
			sizes[i] *= n
		}
		decay = append(decay, p.Decay)
	}
	return fixed.NewOffsets(sizes...), decay
}
