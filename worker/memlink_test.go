package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// A memLink is one worker's connection. kill cuts it.
type memLink struct {
	l      *leader
	mu     sync.Mutex
	dead   bool
	id     string
	h      *Handlers
	rounds chan *wire.Round
	rows   chan *wire.Rows
	wait   sync.WaitGroup
}

var errLost = errors.New("message lost")

// call passes a request to f, under the leader's lock. It may be lost, or handled while its answer is lost, or
// handled twice.
func call[A any](k *memLink, kind string, f func() *A) (*A, error) {
	l := k.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.dead || l.drop[kind] || l.rng.Float64() < l.fault {
		return nil, errLost
	}
	a := f()
	if l.rng.Float64() < l.fault {
		a = f()
	}
	if l.rng.Float64() < l.fault {
		return nil, errLost
	}
	return a, nil
}

// deliver hands a Round to the worker, unless it is lost. The caller holds the leader's lock.
func (k *memLink) deliver(r *wire.Round) {
	if k.dead || k.l.rng.Float64() < k.l.fault {
		return
	}
	select {
	case k.rounds <- r:
	default:
	}
}

func (k *memLink) Hello(_ context.Context, m *wire.Hello) (*wire.Welcome, error) {
	return call(k, "hello", func() *wire.Welcome {
		l := k.l
		if m.Numerics == "other" {
			return &wire.Welcome{Refused: `numerics "other" is not "toy" of this run`}
		}
		if l.find(m.Worker) == nil {
			x := &mem{id: m.Worker, behind: true, state: -1}
			if full := l.full(); len(full) > 0 {
				x.peer = full[l.rng.IntN(len(full))].id
			}
			l.members = append(l.members, x)
			l.links[m.Worker] = k
			l.note("join %s", m.Worker)
			l.publish()
		}
		return &wire.Welcome{FailureTimeout: 100 * time.Millisecond, Run: &wire.RunInfo{ID: "r", Name: "test"}}
	})
}

func (k *memLink) Beat(_ context.Context, m *wire.Beat) (*wire.Pulse, error) {
	return call(k, "beat", func() *wire.Pulse {
		l := k.l
		x := l.find(m.Worker)
		if x == nil {
			return &wire.Pulse{}
		}
		x.state, x.digest, x.size = m.State, m.Parameters, m.Size
		if x.behind && l.round.Kind == wire.Train && x.state == l.round.Step && x.digest == l.round.Parameters {
			x.behind, x.peer = false, ""
			l.note("promote %s in round %d", x.id, l.round.Number)
			l.publish()
		}
		for _, r := range m.Missing {
			if w := l.embedded[r.Lo]; w != "" && l.find(w) == nil && l.round.Kind != 0 {
				l.note("rows of shard %d are lost", r.Lo)
				l.embedded[r.Lo] = ""
				l.epoch++
				l.epochs[r.Lo] = l.epoch
				l.publish()
			}
		}
		if l.round.Kind == 0 && l.round.State == wire.Running {
			l.between()
		}
		p := &wire.Pulse{Known: true}
		if l.round.Revision > m.Revision {
			r := l.round
			p.Round = &r
		}
		return p
	})
}

func (k *memLink) Leave(_ context.Context, m *wire.Leave) error {
	_, err := call(k, "leave", func() *wire.Verdict {
		if x := k.l.find(m.Worker); x != nil {
			x.leaving = true
			k.l.note("leave %s", m.Worker)
		}
		return &wire.Verdict{Accepted: true}
	})
	return err
}

func (k *memLink) Header(_ context.Context, m *wire.HeaderRequest) (*wire.HeaderReply, error) {
	return call(k, "header", func() *wire.HeaderReply {
		h, _ := batch(textsOf(m.Kind, m.Step))
		return &wire.HeaderReply{Header: h}
	})
}

func textsOf(kind wire.Kind, step int64) int64 {
	if kind == wire.Evaluate {
		return -1
	}
	return step
}

func (k *memLink) Shards(_ context.Context, m *wire.ShardRequest) (*wire.ShardReply, error) {
	return call(k, "shards", func() *wire.ShardReply {
		_, shards := batch(textsOf(m.Kind, m.Step))
		reply := &wire.ShardReply{}
		for _, s := range m.Shards {
			reply.Shards = append(reply.Shards, shards[s])
		}
		return reply
	})
}

func (k *memLink) File(_ context.Context, m *wire.FileRequest) (*wire.FileReply, error) {
	return &wire.FileReply{Err: "no files here"}, nil
}

func (k *memLink) Report(_ context.Context, m *wire.Report) (*wire.Verdict, error) {
	return call(k, "report", func() *wire.Verdict {
		l := k.l
		if m.NonFinite && l.drop["the first confession"] { // its leader dies with it
			delete(l.drop, "the first confession")
			l.round.Revision = (l.round.Term() + 1) << 32
			l.publish()
			return &wire.Verdict{Accepted: true}
		}
		if m.NonFinite && l.round.State == wire.Running {
			l.round.State, l.round.Reason = wire.Failed, fmt.Sprintf("shard %d", m.Shard)
			close(l.done)
			l.publish()
		}
		if m.Round != l.round.Number || l.round.Kind == 0 || l.find(m.Worker) == nil || l.round.State != wire.Running {
			return &wire.Verdict{}
		}
		mine := l.lease[m.Shard] == m.Worker && l.epochs[m.Shard] == m.Epoch
		if trainer.Phase(m.Phase) == trainer.Embed {
			if mine && l.embedded[m.Shard] == "" {
				l.embedded[m.Shard] = m.Worker
				if l.round.Kind == wire.Evaluate && !slices.Contains(l.embedded, "") {
					full := l.full()
					l.round.Scorer = full[l.rng.IntN(len(full))].id
				}
				l.publish()
			}
			return &wire.Verdict{Accepted: mine}
		}
		if m.Attempt != l.round.Attempt {
			return &wire.Verdict{}
		}
		if l.accepted[m.Shard] == "" && mine {
			l.accepted[m.Shard] = m.Worker
			l.over = l.over || m.Overflow
			if l.maxima == nil {
				l.maxima = make([]float32, len(m.Maxima))
			}
			merged := slices.Clone(l.maxima)
			for i, x := range m.Maxima {
				merged[i] = max(merged[i], x)
			}
			l.maxima = merged
			l.close()
			return &wire.Verdict{Accepted: true}
		}
		return &wire.Verdict{Accepted: l.accepted[m.Shard] == m.Worker}
	})
}

func (k *memLink) Applied(_ context.Context, m *wire.Applied) (*wire.Verdict, error) {
	return call(k, "applied", func() *wire.Verdict {
		l := k.l
		x := l.find(m.Worker)
		if x == nil || m.Round != l.round.Number || l.round.Kind != wire.Train {
			return &wire.Verdict{}
		}
		if !x.behind {
			l.applied[m.Worker] = *m
			if l.round.Closing == nil { // withdrawn, but this worker had everything
				l.complete(m.Worker)
				l.publish()
			}
			l.commit()
		}
		return &wire.Verdict{Accepted: true}
	})
}

func (k *memLink) Scored(_ context.Context, m *wire.Scored) (*wire.Verdict, error) {
	return call(k, "scored", func() *wire.Verdict {
		l := k.l
		if m.Round == l.round.Number && l.round.Kind == wire.Evaluate && l.round.Scorer == m.Worker {
			l.scores[m.Step] = m.Metrics["score"]
			l.evalDone = m.Step
			l.between()
		}
		return &wire.Verdict{Accepted: true}
	})
}

func (k *memLink) Saved(_ context.Context, m *wire.Saved) (*wire.Verdict, error) {
	return call(k, "saved", func() *wire.Verdict {
		l := k.l
		if l.round.Save != nil && l.round.Save.Step == m.Step && l.round.Save.Worker == m.Worker {
			l.note("saved step %d by %s: %q", m.Step, m.Worker, m.Err)
			if l.drop["the first save"] { // heard and forgotten
				delete(l.drop, "the first save")
				return &wire.Verdict{Accepted: true}
			}
			if m.Err == "" {
				l.saved = m.Step
			}
			l.round.Save = nil
			if l.round.Kind == 0 {
				l.between()
			} else {
				l.publish()
			}
		}
		return &wire.Verdict{Accepted: true}
	})
}

// peers returns the live links of other workers.
func (k *memLink) peers() (out []*memLink) {
	for _, x := range k.l.links {
		if x != k && !x.dead && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func (k *memLink) Publish(_ context.Context, m *wire.Rows) error {
	_, err := call(k, "rows", func() *wire.Verdict {
		for _, x := range k.peers() {
			if k.l.rng.Float64() >= k.l.fault {
				select {
				case x.rows <- m:
				default:
				}
			}
		}
		return nil
	})
	return err
}

func (k *memLink) Send(_ context.Context, to string, m *wire.Rows) error {
	_, err := call(k, "send", func() *wire.Verdict {
		if x := k.l.links[to]; x != nil && !x.dead {
			select {
			case x.rows <- m:
			default:
			}
		}
		return nil
	})
	return err
}

func (k *memLink) AskRows(_ context.Context, m *wire.RowsRequest) error {
	_, err := call(k, "askrows", func() *wire.Verdict {
		for _, x := range k.peers() {
			x.mu.Lock()
			if h := x.h; h != nil {
				x.wait.Go(func() { h.AskRows(context.Background(), m) })
			}
			x.mu.Unlock()
		}
		return nil
	})
	return err
}

func (k *memLink) Ask(ctx context.Context, worker string, m *wire.ChunkRequest) (*wire.Chunk, error) {
	l := k.l
	l.mu.Lock()
	x := l.links[worker]
	lost := k.dead || x == nil || x.dead || l.rng.Float64() < l.fault || l.drop[m.Stream]
	l.mu.Unlock()
	if lost {
		return nil, errLost
	}
	x.mu.Lock()
	h := x.h
	ok := h != nil && x.id == worker
	if ok {
		x.wait.Add(1)
	}
	x.mu.Unlock()
	if !ok {
		return nil, errLost
	}
	defer x.wait.Done()
	c := h.Chunk(ctx, m)
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.dead || l.rng.Float64() < l.fault {
		return nil, errLost
	}
	return c, nil
}

func (k *memLink) Attend(_, worker string, h Handlers) (func(), error) {
	ctx, cancel := context.WithCancel(context.Background())
	k.mu.Lock()
	k.id, k.h = worker, &h
	k.mu.Unlock()
	k.wait.Go(func() {
		for {
			select {
			case r := <-k.rounds:
				h.Round(r)
			case m := <-k.rows:
				h.Rows(m)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		k.mu.Lock()
		k.h = nil
		k.mu.Unlock()
		cancel()
		k.wait.Wait()
	}, nil
}
