package main

import (
	"context"
	"fmt"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/encode/vectors"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// embedder embeds one suite's texts.
type embedder struct {
	*judge
	suite    *data.Suite
	result   *evalResult
	query    int // tokens of a query; 0 = as of a text
	progress func(done, all int)
}

// streamed is how many documents are embedded before they are ranked: memory is bounded by it, and not by the corpus.
const streamed = 16384

// retrieve embeds the queries and then the documents in parts, and keeps of these only what is retrieved.
func (e *embedder) retrieve(ctx context.Context, sheet *data.Sheet) (evaluate.Run, error) {
	q := len(sheet.Queries)
	queries, err := e.rows(ctx, 0, q)
	if err != nil {
		return nil, err
	}
	found := evaluate.NewRetrieval(sheet, queries, e.model.Width())
	defer found.Close()
	for lo := q; lo < e.result.Texts; lo += streamed {
		rows, err := e.rows(ctx, lo, min(lo+streamed, e.result.Texts))
		if err == nil {
			err = found.Add(rows)
		}
		if err != nil {
			return nil, err
		}
	}
	return found.Run()
}

// window is how many texts have their tokens in memory at once; batches of like length are made of them.
const window = 1024

// rows returns the embeddings of slots lo to hi, [hi - lo, D], and counts their tokens. What was kept is not embedded.
func (e *embedder) rows(ctx context.Context, lo, hi int) ([]float32, error) {
	width := e.model.Width()
	out := make([]float32, (hi-lo)*width)
	for at := lo; at < hi; at += window {
		var texts []data.Text
		var keys []vectors.Key
		var slots []int
		for slot := at; slot < min(at+window, hi); slot++ {
			t, err := e.text(slot)
			if err != nil {
				return nil, err
			}
			key := vectors.KeyOf(t.Prompt, t.Tokens)
			if e.kept != nil && e.kept.Get(key, out[(slot-lo)*width:][:width]) {
				e.result.Kept++
				continue
			}
			texts, keys, slots = append(texts, t), append(keys, key), append(slots, slot)
		}
		part, err := e.model.Embed(ctx, texts)
		if err != nil {
			return nil, err
		}
		for i, slot := range slots {
			row := part[i*width : (i+1)*width]
			copy(out[(slot-lo)*width:], row)
			if err := e.finite(row, slot); err != nil {
				return nil, err
			}
			if e.kept != nil && !e.full {
				if err := e.kept.Put(keys[i], row); err != nil {
					e.Log.Warn("embeddings are not kept any more", "error", err)
					e.full = true
				}
			}
		}
		e.progress(min(at+window, hi), e.result.Texts)
	}
	return out, nil
}

// text returns the tokens of a slot.
func (e *embedder) text(slot int) (data.Text, error) {
	text, err := e.suite.Text(slot)
	if err != nil {
		return data.Text{}, err
	}
	prompt := e.result.Query
	limit := e.model.MaxLength
	if q := len(e.suite.Queries); slot < q && e.query > 0 {
		e.model.MaxLength = e.query
	} else if slot >= q && q > 0 {
		prompt = e.result.Document
	}
	t, cut := e.model.Tokenize(prompt, text)
	e.model.MaxLength = limit
	if cut {
		e.result.Truncated++
	}
	e.result.Tokens += int64(len(t.Tokens))
	return t, nil
}

// finite names the text whose embedding is not.
func (e *embedder) finite(row []float32, slot int) error {
	for _, v := range row {
		if v-v == 0 {
			continue
		}
		name := fmt.Sprintf("text %d", slot+1)
		if q := len(e.suite.Queries); slot < q {
			name = "query " + e.suite.Queries[slot]
		} else if q > 0 {
			name = "document " + e.suite.Documents[slot-q]
		}
		text, _ := e.suite.Text(slot)
		return fmt.Errorf("%s: %w: %.60q", name, evaluate.ErrNonFinite, text)
	}
	return nil
}
