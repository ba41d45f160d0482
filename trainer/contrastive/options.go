package contrastive

import (
	"fmt"
	"math"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
)

// Options of a loss over embeddings.
type Options struct {
	Explicit       bool       // RepLLaMA's loss, which reads none of the next four
	Temperature    float64    // tau; divides
	Symmetric      bool       // the mean of query-to-document and document-to-query
	MaskDuplicates bool       // leaves out the documents that are the query's own positive a second time
	Margin         ops.Margin // leaves out the documents that are more similar than the positive, by cosine

	Dimensions []int     // leading dimensions that the loss is summed over; empty = all, once
	Weights    []float64 // of each; empty = 1
}

// Options returns the settings of a run.
func (c Config) Options() Options {
	o := Options{Dimensions: c.Matryoshka, Weights: c.MatryoshkaWeights}
	if c.Kind == ExplicitKind {
		o.Explicit = true
		return o
	}
	o.Temperature, o.Symmetric, o.MaskDuplicates = c.Temperature, c.Symmetric, c.MaskDuplicates == nil || *c.MaskDuplicates
	if c.MaskMargin != nil {
		o.Margin = ops.Margin{On: true, Value: *c.MaskMargin, Relative: c.MarginStrategy == RelativeMargin}
	}
	return o
}

// Check refuses settings that do not fit embeddings of some width.
func (c Config) Check(width int) error {
	switch {
	case c.Kind == InfoNCEKind && c.Temperature <= 0:
		return fmt.Errorf("loss.temperature: %v, want more than 0", c.Temperature)
	case c.MarginStrategy != "" && c.MarginStrategy != AbsoluteMargin && c.MarginStrategy != RelativeMargin:
		return fmt.Errorf("loss.margin_strategy: %q, want %s or %s", c.MarginStrategy, AbsoluteMargin, RelativeMargin)
	case len(c.MatryoshkaWeights) > 0 && len(c.MatryoshkaWeights) != len(c.Matryoshka):
		return fmt.Errorf("loss.matryoshka_weights: %d for %d dimensions, want one each", len(c.MatryoshkaWeights), len(c.Matryoshka))
	}
	for _, d := range c.Matryoshka {
		if d < 1 || d > width {
			return fmt.Errorf("loss.matryoshka: %d, want 1 to %d, the dimensions of the model's embeddings", d, width)
		}
	}
	return nil
}

func (o Options) weight(k int) float64 {
	if len(o.Weights) == 0 {
		return 1
	}
	return o.Weights[k]
}

// same reports whether the positives or negatives at documents i and j are one text, which makes each a false
// negative of the other's query.
func (o Options) same(docs []uint64, i, j int) bool {
	return o.MaskDuplicates && i != j && docs[i] == docs[j]
}

// above reports whether a candidate of similarity s is too similar to be a negative, own being that of the right one.
func (o Options) above(s, own float64) bool {
	switch m := o.Margin; {
	case !m.On:
		return false
	case m.Relative:
		return s > own+m.Value*math.Abs(own)
	default:
		return s > own+m.Value
	}
}
