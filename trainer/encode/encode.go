// Package encode opens a trained model from any kind of folder - a checkpoint of ours, a Hugging Face folder, a PEFT
// adapter over its base, a sentence-transformers folder - and turns texts into embeddings as that kind of folder is
// meant to.
package encode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/tokenize"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// Kinds of folders.
const (
	Checkpoint = "checkpoint"
	Sentence   = "sentence-transformers folder"
	Adapter    = "PEFT adapter"
	Folder     = "Hugging Face folder"
)

// Options are what a user decides beyond the model's own files.
type Options struct {
	Base        string                              // folder of an adapter's base, in the place of the one that it names
	Attention   string                              // causal | bidirectional; "" = the model's
	Pooling     string                              // mean | weighted_mean | last_token | first_token; "" = the model's, else mean
	MaxLength   int                                 // tokens a text; 0 = the model's
	Dimensions  int                                 // leading ones of an embedding that are kept; 0 = all
	Plain       bool                                // no special tokens around texts, whatever the tokenizer's post-processor adds
	Unmerged    bool                                // the adapters of a checkpoint are computed beside the weights, as in training
	Digest      func(folder string) (string, error) // of the base's folder, to be compared with the run's; nil: not compared
	Log         *slog.Logger                        // warns of damaged checkpoints; nil = none
	BatchTokens int                                 // packed tokens of a batch, at most (a longer text is alone); 0 = 4,096
	Compare     *Comparison                         // with the exact model; nil = not
}

// defaultBatch is the tokens of a batch, at most, where the options say nothing.
const defaultBatch = 4096

// Settings say how a model's texts become embeddings.
type Settings struct {
	Attention  string // "" = the family's own
	Pooling    string
	PoolPrompt bool // the prompt's tokens are pooled too
	Normalize  bool
	Special    bool // the tokenizer's post-processor adds its tokens
	LowerCase  bool
	MaxLength  int // tokens a text, prompt and special tokens included; 0 = no limit

	Prompts       map[string]string // by name, put before the text as they are
	DefaultPrompt string            // name; "" = none
}

// Encoder embeds texts. Its methods are called from one goroutine at a time, but Tokenize from any.
type Encoder struct {
	Settings
	Kind string // of the folder
	Dir  string // the folder: of a folder of checkpoints the newest one

	Numerics string // of the device: what the bits depend on besides

	over          string // folder of the base of an adapter; "" = none, or a preset
	tok           *tokenize.Tokenizer
	before, after []int32
	base          *backbone.Base
	model         *backbone.Model
	batch         int
	comparison    *Comparison
	options       Options // without the comparison
	dimensions    int     // 0 = all
}

// Width returns D, the length of an embedding.
func (e *Encoder) Width() int {
	if e.dimensions > 0 {
		return e.dimensions
	}
	return e.model.Width()
}

// Architecture returns what the model is.
func (e *Encoder) Architecture() backbone.Architecture { return e.model.Architecture() }

// Close gives memory and files back.
func (e *Encoder) Close() error {
	if e.model != nil {
		e.model.Free()
	}
	if e.base != nil {
		return e.base.Close()
	}
	return nil
}

// Prompt returns the text of a named prompt; "" is the model's default one.
func (e *Encoder) Prompt(name string) (string, error) {
	if name == "" {
		name = e.DefaultPrompt
	}
	if p, ok := e.Prompts[name]; ok || name == "" {
		return p, nil
	}
	var names []string
	for n := range e.Prompts {
		names = append(names, n)
	}
	if sort.Strings(names); len(names) == 0 {
		return "", fmt.Errorf("prompt %q: %s names no prompts", name, e.Dir)
	}
	return "", fmt.Errorf("prompt %q: %s has %s", name, e.Dir, strings.Join(names, ", "))
}

// Tokenize returns the tokens of prompt and text, and whether they were cut to MaxLength, which takes from the text's
// end. A text without any token is read as one blank, as package data does.
func (e *Encoder) Tokenize(prompt, text string) (t data.Text, cut bool) {
	whole := e.clean(prompt + text)
	room := 1 << 30
	if e.MaxLength > 0 {
		room = max(e.MaxLength-len(e.before)-len(e.after), 1)
	}
	ids := e.tok.Encode(slices.Clone(e.before), whole)
	if len(ids) == len(e.before) && len(ids)+len(e.after) == 0 {
		if ids = e.tok.Encode(ids, " "); len(ids) == 0 {
			ids = append(ids, 0)
		}
	}
	if n := len(e.before) + room; len(ids) > n {
		ids, cut = ids[:n], true
	}
	t.Tokens = append(ids, e.after...)
	if prompt != "" && !e.PoolPrompt {
		t.Prompt = e.promptTokens(prompt, len(t.Tokens))
	}
	return t, cut
}

// promptTokens counts the leading tokens that are the prompt's: those of the prompt by itself, without the special
// token that ends a text. Where a text melts into the prompt's last token, sentence-transformers has nothing left to
// pool and gives zeros; package data leaves one token.
func (e *Encoder) promptTokens(prompt string, length int) int32 {
	n := len(e.before) + len(e.tok.Encode(nil, e.clean(prompt)))
	if e.Kind != Sentence {
		length--
	}
	return int32(min(n, length))
}

func (e *Encoder) clean(text string) string {
	if e.LowerCase {
		text = strings.ToLower(text)
	}
	return text
}

// Embed returns the embeddings of texts, rows [len(texts), D] in their order. Texts of like length share a batch of at
// most so many tokens as the options say.
func (e *Encoder) Embed(ctx context.Context, texts []data.Text) ([]float32, error) {
	if err := e.compare(ctx, texts); err != nil {
		return nil, err
	}
	width := e.Width()
	out := make([]float32, len(texts)*width)
	order := make([]int, len(texts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(texts[a].Tokens), len(texts[b].Tokens)) })
	for len(order) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var batch []data.Text
		tokens := 0
		for _, i := range order {
			if tokens += len(texts[i].Tokens); tokens > e.batch && len(batch) > 0 {
				break
			}
			batch = append(batch, texts[i])
		}
		rows, err := e.rows(batch)
		if err != nil {
			return nil, err
		}
		for j := range batch {
			copy(out[order[j]*width:][:width], rows[j*width:])
		}
		order = order[len(batch):]
	}
	return out, nil
}

func (e *Encoder) rows(texts []data.Text) ([]float32, error) {
	b := backbone.Batch{Texts: texts}
	if !e.pooledHere() {
		rows, _, err := e.model.Embed(b, 0)
		return e.shorten(rows), err
	}
	states, err := e.model.Hidden(b)
	if err != nil {
		return nil, err
	}
	return e.shorten(e.pool(states, texts)), nil
}

// shorten keeps the leading dimensions of rows and, where the model's embeddings are unit vectors, makes them such again.
func (e *Encoder) shorten(rows []float32) []float32 {
	if e.dimensions == 0 {
		return rows
	}
	var out []float32
	for row := range slices.Chunk(rows, e.model.Width()) {
		square, factor := 0.0, 1.0
		for _, v := range row[:e.dimensions] {
			square += float64(float64(v) * float64(v))
		}
		if e.Normalize {
			factor = 1 / math.Max(math.Sqrt(square), 1e-12)
		}
		for _, v := range row[:e.dimensions] {
			out = append(out, float32(float64(v)*factor))
		}
	}
	return out
}

// Tokenizer returns the tokenizer as the readers of package data want it: with the special tokens, where this model
// has them. What it cuts from a long text is its end, the special token there included.
func (e *Encoder) Tokenizer() data.Tokenizer {
	if len(e.before)+len(e.after) == 0 && !e.LowerCase {
		return e.tok
	}
	return framed{e}
}

type framed struct{ e *Encoder }

func (f framed) Encode(dst []int32, text string) []int32 {
	dst = append(dst, f.e.before...)
	return append(f.e.tok.Encode(dst, f.e.clean(text)), f.e.after...)
}

func (f framed) Digest() string {
	return fmt.Sprintf("%s+%v%v%t", f.e.tok.Digest(), f.e.before, f.e.after, f.e.LowerCase)
}

// start makes the model of what was opened.
func (e *Encoder) start(dev engine.Device, o Options, lora *backbone.LoRAConfig, seed uint64) error {
	if o.Attention != "" {
		e.Attention = o.Attention
	}
	if o.Pooling != "" {
		e.Pooling = o.Pooling
	}
	if o.MaxLength > 0 {
		e.MaxLength = o.MaxLength
	}
	if e.Special = e.Special && !o.Plain; e.Special {
		e.before, e.after = e.tok.Around()
	}
	e.Numerics = dev.Numerics()
	if e.batch = o.BatchTokens; e.batch <= 0 {
		e.batch = defaultBatch
	}
	e.Pooling = cmp.Or(e.Pooling, "mean")
	if n, rows := e.tok.Size(), e.base.Architecture.Vocab; n > rows {
		return fmt.Errorf("model %s: its tokenizer has %d tokens, its embedding table %d rows: they are not of one model", e.Dir, n, rows)
	}
	c := backbone.Config{Attention: e.Attention, Pooling: e.Pooling, PoolPrompt: &e.PoolPrompt, LoRA: lora}
	var err error
	if e.model, err = backbone.New(e.base, dev, c, backbone.Options{Frozen: true, Seed: seed}); err != nil {
		return errors.Join(fmt.Errorf("model %s: %w", e.Dir, err))
	}
	if e.dimensions = o.Dimensions; e.dimensions < 0 || e.dimensions > e.model.Width() {
		return fmt.Errorf("model %s: %d dimensions asked for, its embeddings have %d", e.Dir, o.Dimensions, e.model.Width())
	}
	return nil
}
