package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
)

// partBytes is about the most that one message of rows or shards carries.
const partBytes int64 = 1 << 20

// early is how many rounds before their time rows are kept: a fast worker's next round.
const early = 2

// board holds the embeddings of the rounds in flight, from whoever computed them.
type board struct {
	log *slog.Logger

	mu    sync.Mutex
	first int64 // rounds before it are over
	of    map[int64]map[int]*shardRows
	wake  chan struct{}
}

// shardRows are the rows of one shard as far as they are here.
type shardRows struct {
	texts int
	have  int
	parts []*wire.Rows // of disjoint slots
}

func newBoard(log *slog.Logger) *board {
	return &board{log: log, of: map[int64]map[int]*shardRows{}, wake: make(chan struct{})}
}

// changed returns a channel that is closed when rows have come.
func (b *board) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wake
}

// release forgets the rows of rounds before round.
func (b *board) release(round int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.first = max(b.first, round)
	for k := range b.of {
		if k < b.first {
			delete(b.of, k)
		}
	}
}

// add takes rows. Damaged ones are dropped, and asked for later; different ones of the same texts are named.
func (b *board) add(m *wire.Rows) {
	if m.Width <= 0 || len(m.Slots) == 0 || len(m.Values) != len(m.Slots)*m.Width || m.Texts < len(m.Slots) || wire.DigestRows(m.Slots, m.Values) != m.Digest {
		b.log.Warn("damaged rows dropped", "round", m.Round, "shard", m.Shard, "from", m.Worker)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.Round < b.first || m.Round > b.first+early {
		return
	}
	if b.of[m.Round] == nil {
		b.of[m.Round] = map[int]*shardRows{}
	}
	s := b.of[m.Round][m.Shard]
	if s == nil {
		s = &shardRows{texts: m.Texts}
		b.of[m.Round][m.Shard] = s
	}
	for _, p := range s.parts {
		if p.Slots[0] != m.Slots[0] && !slices.Contains(p.Slots, m.Slots[0]) {
			continue
		}
		if p.Digest != m.Digest && len(p.Slots) == len(m.Slots) {
			b.log.Error("two workers embedded the same texts differently", "round", m.Round, "shard", m.Shard, "one", p.Worker, "other", m.Worker)
		}
		return
	}
	s.parts = append(s.parts, m)
	s.have += len(m.Slots)
	close(b.wake)
	b.wake = make(chan struct{})
}

// has reports whether all rows of a shard are here. The caller holds mu.
func (b *board) has(round int64, shard int) bool {
	s := b.of[round][shard]
	return s != nil && s.have >= s.texts
}

// complete reports whether all rows of a round are here.
func (b *board) complete(round int64, shards int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for shard := range shards {
		if !b.has(round, shard) {
			return false
		}
	}
	return true
}

// missing lists those of ranges whose rows are not here.
func (b *board) missing(round int64, ranges []wire.Range) []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []int
	for _, r := range ranges {
		for shard := r.Lo; shard < r.Hi; shard++ {
			if !b.has(round, shard) {
				out = append(out, shard)
			}
		}
	}
	return out
}

// parts returns the messages of a shard if all of them are here.
func (b *board) parts(round int64, shard int) []*wire.Rows {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.has(round, shard) {
		return nil
	}
	return slices.Clone(b.of[round][shard].parts)
}

// shard returns the rows [texts, width] of a shard in its order, or nil.
func (b *board) shard(round int64, shard *data.Shard) []float32 {
	at := map[int32][]float32{}
	for _, p := range b.parts(round, shard.Index) {
		for i, slot := range p.Slots {
			at[slot] = p.Values[i*p.Width : (i+1)*p.Width]
		}
	}
	var out []float32
	for _, text := range shard.Texts {
		if at[text.Slot] == nil {
			return nil
		}
		out = append(out, at[text.Slot]...)
	}
	return out
}

// gather returns the rows of all slots, [slots, width], slot order.
func (b *board) gather(round int64, slots int) ([]float32, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []float32
	width, n := 0, 0
	for shard, s := range b.of[round] {
		for _, p := range s.parts {
			if out == nil {
				width = p.Width
				out = make([]float32, slots*width)
			}
			if p.Width != width {
				return nil, fmt.Errorf("gather round %d: shard %d has rows of width %d, another %d", round, shard, p.Width, width)
			}
			for i, slot := range p.Slots {
				if slot < 0 || int(slot) >= slots {
					return nil, fmt.Errorf("gather round %d: shard %d has slot %d of %d", round, shard, slot, slots)
				}
				copy(out[int(slot)*width:], p.Values[i*width:(i+1)*width])
				n++
			}
		}
	}
	if n != slots {
		return nil, fmt.Errorf("gather round %d: %d rows, want %d", round, n, slots)
	}
	return out, nil
}

// split makes the messages of a shard's rows [texts, width].
func split(run string, round int64, worker string, shard *data.Shard, rows []float32) []*wire.Rows {
	n := len(shard.Texts)
	width := len(rows) / n
	step := max(1, int(partBytes)/(4*width))
	var out []*wire.Rows
	for lo := 0; lo < n; lo += step {
		hi := min(lo+step, n)
		m := &wire.Rows{Run: run, Round: round, Shard: shard.Index, Worker: worker, Texts: n, Width: width}
		for i := lo; i < hi; i++ {
			m.Slots = append(m.Slots, shard.Texts[i].Slot)
		}
		m.Values = slices.Clone(rows[lo*width : hi*width])
		m.Digest = wire.DigestRows(m.Slots, m.Values)
		out = append(out, m)
	}
	return out
}

// answerRows sends rows to a worker that missed them: those that this worker computed, and those whose worker is gone.
func (s *session) answerRows(ctx context.Context, j *job, m *wire.RowsRequest) {
	r, _ := s.view.now()
	if r == nil {
		return
	}
	for _, shard := range m.Shards {
		for _, p := range j.board.parts(m.Round, shard) {
			if p.Worker != s.id && member(r, p.Worker) != nil {
				continue
			}
			if err := s.Link.Send(ctx, m.Reply, p); err != nil {
				return // asked again
			}
		}
	}
}

// asker asks for rows of embedded shards that have not come.
type asker struct {
	f     *fleet
	since map[int]int // shard: ticks since it is missed
	last  int         // number of shards told to the coordinator
}

// look is called a few times in a failure_timeout: it asks the second time that a shard is missed, and tells the
// coordinator after a whole one.
func (a *asker) look(ctx context.Context, r *wire.Round) {
	f := a.f
	if r.Number != f.number || f.gathered.Load() || f.kind == wire.Evaluate && r.Scorer != f.id {
		return
	}
	missing := f.j.board.missing(f.number, r.Embedded)
	since := map[int]int{}
	var ask []int
	var lack []wire.Range
	for _, shard := range missing {
		n := a.since[shard] + 1
		since[shard] = n
		if n%4 == 2 {
			ask = append(ask, shard)
		}
		if n > 20 {
			lack = append(lack, wire.Range{Lo: shard, Hi: shard + 1})
		}
	}
	a.since = since
	if len(ask) > 0 {
		if err := f.Link.AskRows(ctx, &wire.RowsRequest{Run: f.j.run.ID, Round: f.number, Shards: ask, Reply: f.id}); err != nil && ctx.Err() == nil {
			f.log.Debug("rows asked for again", "err", err)
		}
	}
	if len(lack) != a.last {
		a.last = len(lack)
		f.j.lack(lack)
	}
}
