package backbone

import (
	"errors"
	"fmt"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// Batch is a shard as a model reads it: texts one after another, [T] tokens without padding.
type Batch struct {
	Texts    []data.Text
	Step     int64 // of the random numbers of dropout
	Training bool  // dropout on, the attention of training
}

// Prediction is what a language objective asks of a packed batch: P terms, each a cross-entropy.
type Prediction struct {
	Inputs   []int32   // [T] token ids that the model reads, in the place of the texts' own
	Position []int32   // [P] the packed position whose state predicts
	Target   []int32   // [P] the token id to predict
	Weight   []float32 // [P] factor of the term
}

// packed is a batch laid out for a program; its slices are used again.
type packed struct {
	extents              engine.Extents
	ids, cu, skip, texts []int32
	step                 []int32
	rows, targets        []int32
	weights              []float32
}

// fill lays out a batch. Dropout knows a text by its slot in the global batch, which no packing changes.
func (m *Model) fill(b Batch, p *Prediction) error {
	k := &m.pack
	k.ids, k.cu, k.skip, k.texts = k.ids[:0], append(k.cu[:0], 0), k.skip[:0], k.texts[:0]
	k.rows, k.targets, k.weights = nil, nil, nil
	if len(b.Texts) == 0 {
		return errors.New("model: a batch without texts")
	}
	for i := range b.Texts {
		t := &b.Texts[i]
		n := len(t.Tokens)
		if n == 0 {
			return fmt.Errorf("model: text %d of the batch (row %d) has no tokens", i, t.Row)
		}
		skip := int32(0)
		if m.config.PoolPrompt != nil && !*m.config.PoolPrompt && int(t.Prompt) < n {
			skip = t.Prompt // a text that is all prompt is pooled whole
		}
		k.ids = append(k.ids, t.Tokens...)
		k.cu = append(k.cu, int32(len(k.ids)))
		k.skip = append(k.skip, skip)
		k.texts = append(k.texts, t.Slot)
	}
	k.step = append(k.step[:0], int32(uint32(b.Step)))
	k.extents = engine.Extents{Tokens: len(k.ids), Texts: len(b.Texts)}
	if p != nil {
		if err := k.predict(p, m.arch.Vocab); err != nil {
			return err
		}
	}
	for t, id := range k.ids {
		if id < 0 || int(id) >= m.arch.Vocab {
			return fmt.Errorf("model: token id %d at packed position %d, the vocabulary has %d", id, t, m.arch.Vocab)
		}
	}
	return nil
}

func (k *packed) predict(p *Prediction, vocab int) error {
	if p.Inputs != nil {
		if len(p.Inputs) != len(k.ids) {
			return fmt.Errorf("model: a prediction over %d tokens for a batch of %d", len(p.Inputs), len(k.ids))
		}
		k.ids = append(k.ids[:0], p.Inputs...)
	}
	k.rows, k.targets, k.weights = p.Position, p.Target, p.Weight
	k.extents.Picks = len(p.Position)
	for i, row := range p.Position {
		if row < 0 || int(row) >= len(k.ids) {
			return fmt.Errorf("model: term %d predicts from position %d of %d", i, row, len(k.ids))
		}
		if p.Target != nil && (p.Target[i] < 0 || int(p.Target[i]) >= vocab) {
			return fmt.Errorf("model: term %d has target %d, the vocabulary has %d", i, p.Target[i], vocab)
		}
	}
	return nil
}

// set writes the batch to a frame.
func (k *packed) set(f *engine.Frame) error {
	err := errors.Join(
		f.Set("ids", engine.Bytes(k.ids)), f.Set("cu", engine.Bytes(k.cu)), f.Set("skip", engine.Bytes(k.skip)),
		f.Set("texts", engine.Bytes(k.texts)), f.Set("step", engine.Bytes(k.step)))
	if k.rows != nil {
		err = errors.Join(err, f.Set("rows", engine.Bytes(k.rows)))
	}
	if k.targets != nil {
		err = errors.Join(err, f.Set("targets", engine.Bytes(k.targets)))
	}
	if k.weights != nil {
		err = errors.Join(err, f.Set("weights", engine.Bytes(k.weights)))
	}
	return err
}
