package contrastive

import (
	"fmt"
	"slices"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// Loss is Reference as graphs on a device, one for each of the run's dimensions: the loss over the whole global batch that
// every worker computes for itself. A graph is compiled for a size of batch and kept until another one comes. Its method
// is called from one goroutine at a time.
type Loss struct {
	dev     engine.Device
	options Options
	graphs  []*graph // of each dimension; at least one
}

// graph is the loss of rows cut to d values.
type graph struct {
	rows, ints, d int
	frame         *engine.Frame
}

// NewLoss returns the loss on a device, which it takes no memory of before the first batch.
func NewLoss(dev engine.Device, o Options) *Loss {
	l := &Loss{dev: dev, options: o}
	for range max(1, len(o.Dimensions)) {
		l.graphs = append(l.graphs, &graph{})
	}
	return l
}

// Loss returns the loss of rows [R, D], unit ones but for the explicit loss, and its gradient by each of them, [R, D].
func (l *Loss) Loss(rows []float32, d int, b Batch) (loss float64, grad []float32, err error) {
	ints, err := l.integers(b)
	if err != nil {
		return 0, nil, err
	}
	fail := func(err error) (float64, []float32, error) {
		return 0, nil, fmt.Errorf("loss over %d queries and %d documents: %w", b.Queries, len(b.Docs), err)
	}
	if len(l.options.Dimensions) == 0 {
		if loss, grad, err = l.run(l.graphs[0], rows, d, ints, false); err != nil {
			return fail(err)
		}
		return loss, grad, nil
	}
	// The sums below are exact products and additions in one order on every device.
	grad = make([]float32, len(rows))
	for k, short := range l.options.Dimensions {
		cut := make([]float32, 0, b.Rows()*short)
		for at := 0; at < len(rows); at += d {
			cut = append(cut, rows[at:at+short]...)
		}
		part, g, err := l.run(l.graphs[k], cut, short, ints, !l.options.Explicit)
		if err != nil {
			return fail(err)
		}
		w := float32(l.options.weight(k))
		loss += float64(l.options.weight(k) * part)
		for i := range b.Rows() {
			to := grad[i*d:][:short]
			for j, v := range g[i*short:][:short] {
				to[j] += float32(w * v)
			}
		}
	}
	return loss, grad, nil
}

// integers are the second input of the ops: of InfoNCE the documents' identities, numbered from 0 since a device has
// 32-bit integers; of the explicit loss the numbers of negatives.
func (l *Loss) integers(b Batch) ([]int32, error) {
	if l.options.Explicit {
		sum := 0
		for _, n := range b.Negatives {
			sum += int(max(n, 0))
		}
		if len(b.Negatives) != b.Queries || sum != len(b.Docs)-b.Queries || slices.Min(b.Negatives) < 0 {
			return nil, fmt.Errorf("%d queries, %d documents and %v negatives: want documents = queries + the sum of negatives", b.Queries, len(b.Docs), b.Negatives)
		}
		return b.Negatives, nil
	}
	number := map[uint64]int32{}
	ids := make([]int32, len(b.Docs))
	for i, doc := range b.Docs {
		if _, ok := number[doc]; !ok {
			number[doc] = int32(len(number))
		}
		ids[i] = number[doc]
	}
	return ids, nil
}

func (l *Loss) run(g *graph, rows []float32, d int, ints []int32, normalize bool) (loss float64, grad []float32, err error) {
	if err := l.compile(g, len(rows)/d, len(ints), d, normalize); err != nil {
		return 0, nil, err
	}
	if err := g.frame.Set("embeddings", engine.Bytes(rows)); err != nil {
		return 0, nil, err
	}
	if err := g.frame.Set("ints", engine.Bytes(ints)); err != nil {
		return 0, nil, err
	}
	if err := g.frame.Run(0); err != nil {
		return 0, nil, err
	}
	value, grad := make([]float32, 1), make([]float32, len(rows))
	if err := l.dev.Read(engine.Bytes(value), g.frame.Output(0, 0)); err != nil {
		return 0, nil, err
	}
	return float64(value[0]), grad, l.dev.Read(engine.Bytes(grad), g.frame.Output(0, 1))
}

func (l *Loss) compile(g *graph, rows, ints, d int, normalize bool) error {
	if g.frame != nil && g.rows == rows && g.ints == ints && g.d == d {
		return nil
	}
	g.free()
	b := ops.New(nil)
	embeddings, second := b.Input(ops.Matrix, "embeddings", rows, d), b.Input(ops.Ints, "ints", ints)
	x := embeddings
	if normalize {
		x = b.Apply(ops.Normalize{}, x)
	}
	o := l.options
	var spec ops.Spec = ops.InfoNCE{Temperature: o.Temperature, Masked: o.MaskDuplicates, Symmetric: o.Symmetric, Margin: o.Margin}
	if o.Explicit {
		spec = ops.Explicit{}
	}
	loss := b.Apply(spec, x, second)
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
	g.rows, g.ints, g.d, g.frame = rows, ints, d, p.Frame()
	return g.frame.Bind(arena, engine.Extents{})
}

// Free gives back the memory on the device.
func (l *Loss) Free() {
	for _, g := range l.graphs {
		g.free()
	}
}

func (g *graph) free() {
	if g.frame != nil {
		g.frame.Arena().Free()
		g.frame = nil
	}
}
