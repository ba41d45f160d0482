package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
)

// The prefetch window: how many shards, of how many tokens together, are asked for ahead of the trainer, and how
// many go into one message.
const (
	windowShards  = 8
	windowTokens  = 256 << 10
	messageShards = 4
	messageTokens = 128 << 10
)

// shelf fetches the texts of shards from the coordinator, ahead of the trainer, and keeps them for the second phase.
type shelf struct {
	link    Link
	run     string
	timeout time.Duration
	log     *slog.Logger

	flying sync.WaitGroup

	mu      sync.Mutex
	life    context.Context // of the session, for what outlives the round that asked for it
	slots   map[slotKey]*slot
	headers map[wire.HeaderRequest]data.Header
}

type slotKey struct {
	kind  wire.Kind
	step  int64
	suite int
	shard int
}

// slot is a shard that is here or on its way. ready is closed when shard or err is set.
type slot struct {
	ready chan struct{}
	shard *data.Shard
	err   error
}

func newShelf(link Link, run string, timeout time.Duration, log *slog.Logger) *shelf {
	return &shelf{link: link, run: run, timeout: timeout, log: log, slots: map[slotKey]*slot{}, headers: map[wire.HeaderRequest]data.Header{}}
}

// live says how long guesses may take.
func (s *shelf) live(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = ctx
}

// release forgets everything but what belongs to a round's texts.
func (s *shelf) release(kind wire.Kind, step int64, suite int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.slots {
		if k.kind != kind || k.step != step || k.suite != suite {
			delete(s.slots, k)
		}
	}
	for k := range s.headers {
		if k.Kind != kind || k.Step != step || k.Suite != suite {
			delete(s.headers, k)
		}
	}
}

// header returns the header of a round's batch. It asks until a coordinator answers.
func (s *shelf) header(ctx context.Context, req wire.HeaderRequest) (data.Header, error) {
	key := req
	key.Round = 0 // the batch is pure in the step
	s.mu.Lock()
	h, ok := s.headers[key]
	s.mu.Unlock()
	if ok {
		return h, nil
	}
	err := s.repeat(ctx, "header", func(ctx context.Context) error {
		reply, err := s.link.Header(ctx, &req)
		if err == nil && reply.Err != "" {
			err = errors.New(reply.Err)
		}
		if err == nil {
			h = reply.Header
		}
		return err
	})
	if err != nil {
		return data.Header{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.headers[key] = h
	return h, nil
}

// shard returns the first shard of want. Those after it are fetched with it where they fit the window; tokens says
// how long each shard of the round is.
func (s *shelf) shard(ctx context.Context, req wire.ShardRequest, want []int, tokens []int32) (*data.Shard, error) {
	for {
		s.ahead(ctx, req, want, tokens)
		s.mu.Lock()
		x := s.slots[key(req, want[0])]
		s.mu.Unlock()
		if x == nil { // forgotten after an error of another round's fetch
			continue
		}
		select {
		case <-x.ready:
			if x.err == nil {
				return x.shard, nil
			}
			s.forget(key(req, want[0]), x)
			if err := sleep(ctx, time.Millisecond); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func key(req wire.ShardRequest, shard int) slotKey {
	return slotKey{req.Kind, req.Step, req.Suite, shard}
}

func (s *shelf) forget(k slotKey, x *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots[k] == x {
		delete(s.slots, k)
	}
}

// ahead begins to fetch the shards of want that fit the window and are not here or on their way: the first alone, for
// the trainer waits for it, and the others when enough are missing for a message. What it starts ends with ctx.
func (s *shelf) ahead(ctx context.Context, req wire.ShardRequest, want []int, tokens []int32) {
	length := func(shard int) int {
		if shard < len(tokens) {
			return int(tokens[shard])
		}
		return 0
	}
	var missing []int
	window, end := 0, len(want)
	s.mu.Lock()
	for i, shard := range want {
		window += length(shard)
		if i > 0 && (i >= windowShards || window > windowTokens) {
			end = i
			break
		}
		if s.slots[key(req, shard)] == nil {
			missing = append(missing, shard)
		}
	}
	s.mu.Unlock()
	if len(missing) == 0 {
		return
	}
	if missing[0] == want[0] {
		s.start(ctx, req, missing[:1], true)
		missing = missing[1:]
	}
	if len(missing) < messageShards && end < len(want) {
		return // the next ones come with them
	}
	for len(missing) > 0 {
		n, tokens := 1, length(missing[0])
		for n < min(len(missing), messageShards) && tokens+length(missing[n]) <= messageTokens {
			tokens += length(missing[n])
			n++
		}
		s.start(ctx, req, missing[:n], true)
		missing = missing[n:]
	}
}

// guess fetches shards that may be wanted next. It asks once, and goes on when the round is over.
func (s *shelf) guess(req wire.ShardRequest, shards []int) {
	var batch []int
	s.mu.Lock()
	for _, shard := range shards {
		if s.slots[key(req, shard)] == nil && len(batch) < messageShards {
			batch = append(batch, shard)
		}
	}
	ctx := s.life
	s.mu.Unlock()
	if len(batch) > 0 && ctx != nil {
		s.start(ctx, req, batch, false)
	}
}

// start fetches a batch in a goroutine that ends with ctx.
func (s *shelf) start(ctx context.Context, req wire.ShardRequest, batch []int, insist bool) {
	req.Shards = batch
	slots := make(map[int]*slot, len(batch))
	s.mu.Lock()
	for _, shard := range batch {
		x := &slot{ready: make(chan struct{})}
		slots[shard] = x
		s.slots[key(req, shard)] = x
	}
	s.mu.Unlock()
	s.flying.Go(func() {
		err := s.fetch(ctx, req, slots, insist)
		for shard, x := range slots {
			if x.shard == nil {
				x.err = err
				if x.err == nil {
					x.err = fmt.Errorf("shard %d of step %d was not in the answer", shard, req.Step)
				}
				s.forget(key(req, shard), x)
			}
			close(x.ready)
		}
	})
}

func (s *shelf) fetch(ctx context.Context, req wire.ShardRequest, slots map[int]*slot, insist bool) error {
	once := func(ctx context.Context) error {
		reply, err := s.link.Shards(ctx, &req)
		if err == nil && reply.Err != "" {
			err = errors.New(reply.Err)
		}
		if err != nil {
			return err
		}
		for i := range reply.Shards {
			if x := slots[reply.Shards[i].Index]; x != nil {
				x.shard = &reply.Shards[i]
			}
		}
		return nil
	}
	if !insist {
		ctx, cancel := context.WithTimeout(ctx, 2*s.timeout)
		defer cancel()
		return once(ctx)
	}
	return s.repeat(ctx, "shards", once)
}

// repeat asks until there is an answer or ctx ends. A refusal is logged once in a while: a coordinator that has not
// opened the data yet is not worth more.
func (s *shelf) repeat(ctx context.Context, what string, once func(context.Context) error) error {
	began, told := time.Now(), false
	for pause := time.Millisecond; ; pause = min(2*pause, s.timeout/2) {
		actx, cancel := context.WithTimeout(ctx, 2*s.timeout)
		err := once(actx)
		cancel()
		if err == nil {
			return nil
		}
		if !told && time.Since(began) > 2*s.timeout {
			told = true
			s.log.Warn("coordinator does not answer for texts; asking on", "what", what, "err", err)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}
