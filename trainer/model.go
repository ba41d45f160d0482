package trainer

import (
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// Model is what a step asks of a backbone on a device. Everything that it computes is a function of the parameters
// and of its arguments alone.
type Model interface {
	// Tensors returns the trainable tensors in the order in which Parameters has them.
	Tensors() []Tensor
	// Parameters returns the trainable parameters [P], shared: who writes them calls Updated before the next
	// computation.
	Parameters() []float32
	Updated() error
	// Width returns D, the length of an embedding.
	Width() int

	// Embed returns unit rows [len(batch.Texts), D]. With keep > 0, an activations of at most that many bytes may
	// come with them for EmbedBackward; nil if there are none.
	Embed(batch Packed, keep int64) (rows []float32, a Activations, err error)
	// EmbedBackward writes the gradient of sum(E * dE) over the batch's rows to grad [P]; dE [len(batch.Texts), D].
	// With activations of the same batch the forward pass is skipped; the bits are the same.
	EmbedBackward(batch Packed, dE, grad []float32, a Activations) error
	// LanguageBackward returns the loss of the prediction over the batch, whose inputs replace the texts' tokens,
	// and writes its gradient to grad [P].
	LanguageBackward(batch Packed, p contrastive.Prediction, grad []float32) (loss float64, err error)
}

// Activations are what a forward pass left for the backward pass.
type Activations interface {
	Bytes() int64
	Free()
}

// Tensor is one trainable tensor.
type Tensor struct {
	Name  string
	Shape []int
}

// Size returns the number of values.
func (t Tensor) Size() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Packed is a shard as a model reads it: texts one after another, [T] tokens without padding.
type Packed struct {
	Texts    []data.Text
	Step     int64 // of the random numbers of dropout
	Training bool  // dropout on, the attention of training
}

// offsets says where each tensor of a model lies in its flat parameters.
func offsets(tensors []Tensor) fixed.Offsets {
	sizes := make([]int, len(tensors))
	for i, t := range tensors {
		sizes[i] = t.Size()
	}
	return fixed.NewOffsets(sizes...)
}
