package encode

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// Agreement is how near the embeddings of some texts are to those of the exact model.
type Agreement struct {
	Texts       int
	Mean, Least float64 // cosines
}

// Comparison asks that an encoder on a device that rounds (cpu.NewInt8) be held against the exact model, once, on the
// first texts that it embeds.
type Comparison struct {
	Device engine.Device   // for the exact model, which is there only meanwhile
	Least  float64         // a lower mean cosine is an error
	Report func(Agreement) // nil = none
}

// Of the first texts so many are compared, and no more once they have so many tokens.
const (
	comparedTexts  = 32
	comparedTokens = 16384
)

// compare embeds the first texts with the exact model as well.
func (e *Encoder) compare(ctx context.Context, texts []data.Text) error {
	c := e.comparison
	if c == nil || len(texts) == 0 {
		return nil
	}
	e.comparison = nil
	tokens := 0
	for i := range texts {
		if tokens += len(texts[i].Tokens); i == comparedTexts || i > 0 && tokens > comparedTokens {
			texts = texts[:i]
			break
		}
	}
	want, err := e.exactly(ctx, c.Device, texts)
	if err != nil {
		return fmt.Errorf("embed with the exact model to compare: %w", err)
	}
	got, err := e.Embed(ctx, texts)
	if err != nil {
		return err
	}
	a := Agree(got, want, e.Width())
	if c.Report != nil {
		c.Report(a)
	}
	if !(a.Mean >= c.Least) {
		return fmt.Errorf("model %s: the cosine of rounded to exact embeddings is %.5f on average (%.5f at least) on %d texts, want %g on average",
			e.Dir, a.Mean, a.Least, a.Texts, c.Least)
	}
	return nil
}

// exactly opens the encoder's folder on another device and embeds texts.
func (e *Encoder) exactly(ctx context.Context, dev engine.Device, texts []data.Text) ([]float32, error) {
	exact, err := Open(ctx, e.Dir, dev, e.options)
	if err != nil {
		return nil, err
	}
	rows, err := exact.Embed(ctx, texts)
	err = errors.Join(err, exact.Close())
	exact = nil
	debug.FreeOSMemory()
	return rows, err
}

// Agree compares rows of width values one by one.
func Agree(got, want []float32, width int) Agreement {
	a := Agreement{Texts: len(want) / width, Least: 1}
	for i := range a.Texts {
		var dot, x, y float64
		for j := i * width; j < (i+1)*width; j++ {
			g, w := float64(got[j]), float64(want[j])
			dot, x, y = dot+float64(g*w), x+float64(g*g), y+float64(w*w)
		}
		c := 1.0
		if x != y || dot != x {
			c = dot / math.Sqrt(x*y)
		}
		if a.Mean += c / float64(a.Texts); !(c >= a.Least) {
			a.Least = c
		}
	}
	return a
}
