package coordinator

import (
	"fmt"
	"sync"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
)

// batches serves headers and shards, and keeps the tokenised shards of the newest steps, so that the next step's are
// ready before it opens. Suites may be large and are not kept.
type batches struct {
	feed   Feed
	suites Suites

	mu   sync.Mutex
	kept map[plan.Work]*batch
}

// keptBatches is how many steps stay in memory: the one in flight, the next, and the one before, for who is late.
const keptBatches = 3

type batch struct {
	once   sync.Once
	header data.Header
	shards []data.Shard // nil for a suite
	err    error
}

func newBatches(feed Feed, suites Suites) *batches {
	return &batches{feed: feed, suites: suites, kept: map[plan.Work]*batch{}}
}

// load returns the batch of some work, read once.
func (b *batches) load(w plan.Work) *batch {
	b.mu.Lock()
	k := b.kept[w]
	if k == nil {
		k = &batch{}
		b.kept[w] = k
		if len(b.kept) > keptBatches {
			b.evict(w)
		}
	}
	b.mu.Unlock()
	k.once.Do(func() { k.read(b, w) })
	return k
}

// evict drops the batch that is furthest from w, which stays.
func (b *batches) evict(w plan.Work) {
	far, distance := w, int64(-1)
	for k := range b.kept {
		d := k.Step - w.Step
		if d < 0 {
			d = -d
		}
		if k != w && (d > distance || d == distance && k.Kind == fsm.Evaluate) {
			far, distance = k, d
		}
	}
	if far != w {
		delete(b.kept, far)
	}
}

func (k *batch) read(b *batches, w plan.Work) {
	if w.Kind == fsm.Evaluate {
		if b.suites == nil || w.Suite < 0 || w.Suite >= len(b.suites.Names()) {
			k.err = fmt.Errorf("there is no suite %d", w.Suite)
			return
		}
		if k.header, k.err = b.suites.Header(w.Suite); k.err != nil {
			k.err = fmt.Errorf("read suite %s: %w", b.suites.Names()[w.Suite], k.err)
		}
		return
	}
	if k.header, k.err = b.feed.Header(w.Step); k.err != nil {
		k.err = fmt.Errorf("read the batch of step %d: %w", w.Step, k.err)
		return
	}
	all := make([]int, len(k.header.Tokens))
	for i := range all {
		all[i] = i
	}
	if k.shards, k.err = b.feed.Shards(w.Step, all); k.err != nil {
		k.err = fmt.Errorf("read the shards of step %d: %w", w.Step, k.err)
	}
}

// shape returns what plan must know before it opens a round.
func (b *batches) shape(w plan.Work) plan.Shape {
	k := b.load(w)
	switch {
	case k.err != nil:
		return plan.Shape{Err: k.err.Error()}
	case len(k.header.Tokens) == 0:
		return plan.Shape{Err: fmt.Sprintf("the batch of step %d, suite %d has no texts", w.Step, w.Suite)}
	}
	shape := plan.Shape{Tokens: k.header.Tokens, Gather: w.Kind == fsm.Evaluate || k.header.Queries > 0}
	if w.Kind == fsm.Train {
		shape.Digest = data.DigestBatch(&k.header, k.shards)
	}
	return shape
}

// pick returns shards by index.
func (b *batches) pick(w plan.Work, indices []int) ([]data.Shard, error) {
	k := b.load(w)
	if k.err != nil {
		return nil, k.err
	}
	for _, i := range indices {
		if i < 0 || i >= len(k.header.Tokens) {
			return nil, fmt.Errorf("there is no shard %d among %d", i, len(k.header.Tokens))
		}
	}
	if w.Kind == fsm.Evaluate {
		return b.suites.Shards(w.Suite, indices)
	}
	out := make([]data.Shard, len(indices))
	for i, index := range indices {
		out[i] = k.shards[index]
	}
	return out, nil
}

// replyBytes bounds a shard reply; the first shard comes in any case, the others if they fit. The one who asked asks
// again for the rest.
const replyBytes = wire.MaxMessage / 2

// fit returns the leading shards that fit one message.
func fit(shards []data.Shard) []data.Shard {
	size := 0
	for i := range shards {
		for j := range shards[i].Texts {
			size += 40 + 4*len(shards[i].Texts[j].Tokens)
		}
		if i > 0 && size > replyBytes {
			return shards[:i]
		}
	}
	return shards
}

// where names rows of sources; data.Set does.
type where interface {
	Where(source int32, row int64) string
}

// whereSuite names texts of suites; data.Suites does.
type whereSuite interface {
	Where(suite int, source int32, row int64) string
}

// maxNamed is how many rows of a shard an error names.
const maxNamed = 6

// describe names the rows that a shard holds, for an error that concerns the shard.
func (b *batches) describe(w plan.Work, shard int) string {
	shards, err := b.pick(w, []int{shard})
	if err != nil {
		return ""
	}
	type row struct {
		source int32
		row    int64
	}
	seen, text, more := map[row]bool{}, "", 0
	for _, t := range shards[0].Texts {
		r := row{t.Source, t.Row}
		if seen[r] {
			continue
		}
		if seen[r] = true; len(seen) > maxNamed {
			more++
			continue
		}
		name := fmt.Sprintf("source %d row %d", t.Source, t.Row)
		if n, ok := b.feed.(where); ok && w.Kind == fsm.Train {
			name = n.Where(t.Source, t.Row)
		}
		if n, ok := b.suites.(whereSuite); ok && w.Kind == fsm.Evaluate {
			name = n.Where(w.Suite, t.Source, t.Row)
		}
		if text != "" {
			text += ", "
		}
		text += name
	}
	if more > 0 {
		text += fmt.Sprintf(" and %d more rows", more)
	}
	return text
}
