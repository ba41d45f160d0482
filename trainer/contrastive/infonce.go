package contrastive

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// InfoNCE is Reference as a graph on a device: the loss over the whole global batch that every worker computes for
// itself. The graph is compiled for a size of batch and kept until another one comes. Its method is called from one
// goroutine at a time.
type InfoNCE struct {
	dev engine.Device
	op  ops.InfoNCE

	rows, docs, d int // of frame
	frame         *engine.Frame
}

// NewInfoNCE returns the loss on a device, which it takes no memory of before the first batch.
func NewInfoNCE(dev engine.Device, o Options) *InfoNCE {
	return &InfoNCE{dev: dev, op: ops.InfoNCE{Temperature: o.Temperature, Masked: o.MaskDuplicates, Symmetric: o.Symmetric}}
}

// Loss returns the loss of unit rows [R, D] and its gradient by each of them, [R, D].
func (l *InfoNCE) Loss(rows []float32, d int, b Batch) (loss float64, grad []float32, err error) {
	if err := l.compile(b.Rows(), len(b.Docs), d); err != nil {
		return 0, nil, fmt.Errorf("InfoNCE over %d queries and %d documents: %w", b.Queries, len(b.Docs), err)
	}
	number := map[uint64]int32{} // of each identity: a device has 32-bit integers
	ids := make([]int32, len(b.Docs))
	for i, doc := range b.Docs {
		if _, ok := number[doc]; !ok {
			number[doc] = int32(len(number))
		}
		ids[i] = number[doc]
	}
	if err := l.frame.Set("embeddings", engine.Bytes(rows)); err != nil {
		return 0, nil, err
	}
	if err := l.frame.Set("documents", engine.Bytes(ids)); err != nil {
		return 0, nil, err
	}
	if err := l.frame.Run(0); err != nil {
		return 0, nil, err
	}
	value, grad := make([]float32, 1), make([]float32, len(rows))
	if err := l.dev.Read(engine.Bytes(value), l.frame.Output(0, 0)); err != nil {
		return 0, nil, err
	}
	return float64(value[0]), grad, l.dev.Read(engine.Bytes(grad), l.frame.Output(0, 1))
}

func (l *InfoNCE) compile(rows, docs, d int) error {
	if l.frame != nil && l.rows == rows && l.docs == docs && l.d == d {
		return nil
	}
	l.Free()
	b := ops.New(nil)
	embeddings, documents := b.Input(ops.Matrix, "embeddings", rows, d), b.Input(ops.Ints, "documents", docs)
	loss := b.Apply(l.op, embeddings, documents)
	grads := b.Grad(loss, embeddings)
	loss = ops.LossOf(b, loss)
	if err := b.Err(); err != nil {
		return err
	}
	outputs := []engine.Output{{Node: loss}, {Node: grads[0]}}
	p, err := engine.Compile(l.dev, b.Graph(), engine.Options{Stages: [][]engine.Output{outputs}})
	if err != nil {
		return err
	}
	arena, err := l.dev.Alloc(p.Bytes())
	if err != nil {
		return err
	}
	l.rows, l.docs, l.d, l.frame = rows, docs, d, p.Frame()
	return l.frame.Bind(arena, engine.Extents{})
}

// Free gives back the memory on the device.
func (l *InfoNCE) Free() {
	if l.frame != nil {
		l.frame.Arena().Free()
		l.frame = nil
	}
}
