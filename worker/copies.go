package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// streamState is the stream of wire.ChunkRequest that carries copies of a worker's state.
const streamState = "state"

// snap is a copy of the trainer's state. It is made beside the step that follows, which only reads the parameters until
// its update; the driver waits for it before they change.
type snap struct {
	step   int64
	digest string
	ready  chan struct{} // closed when state is there
	state  trainer.State
}

// snapshot begins a copy of the parameters as they are now, or returns the one that is in the making. The driver calls it.
func (j *job) snapshot() *snap {
	if s := j.copying; s != nil && s.step == j.steps && s.digest == j.digest {
		return s
	}
	j.settle()
	s := &snap{step: j.steps, digest: j.digest, ready: make(chan struct{})}
	j.copying = s
	t := j.trainer
	go func() {
		defer close(s.ready)
		s.state = t.State()
	}()
	return s
}

// settle waits for the copy in the making. Whoever changes or frees the trainer's parameters calls it before.
func (j *job) settle() {
	if j.copying == nil {
		return
	}
	began := time.Now()
	<-j.copying.ready
	if d := time.Since(began); d > time.Millisecond {
		j.log.Debug("update waited for a copy of the state", "step", j.copying.step, "seconds", d.Seconds())
	}
	j.copying = nil
}

// copies serves copies of this worker's state to joiners. They are begun by the driver between two steps; parts are
// encoded as they are asked for.
type copies struct {
	timeout time.Duration

	mu     sync.Mutex
	wanted bool
	snap   *snap
	used   time.Time
	taken  chan struct{} // closed when a copy is begun
}

func newCopies(timeout time.Duration) *copies {
	return &copies{timeout: timeout, taken: make(chan struct{})}
}

// refresh begins a copy if one is wanted, and drops one that nobody has asked for in a while. The driver calls it
// between two steps.
func (c *copies) refresh(j *job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.snap != nil && time.Since(c.used) > 10*c.timeout {
		c.snap = nil
	}
	if !c.wanted || j.trainer == nil || j.steps < 0 {
		return
	}
	if c.snap == nil || c.snap.step != j.steps || c.snap.digest != j.digest {
		c.snap = j.snapshot()
	}
	c.wanted, c.used = false, time.Now()
	close(c.taken)
	c.taken = make(chan struct{})
}

// get returns the copy named key; "" asks for a fresh one, which comes between two steps.
func (c *copies) get(ctx context.Context, key string, kick func()) (state *trainer.State, later bool) {
	t := time.NewTimer(c.timeout / 2)
	defer t.Stop()
	c.mu.Lock()
	if key == "" {
		c.wanted = true
		taken := c.taken
		c.mu.Unlock()
		kick()
		select {
		case <-taken:
		case <-t.C:
			return nil, true
		case <-ctx.Done():
			return nil, true
		}
		c.mu.Lock()
	}
	s := c.snap
	if s == nil || key != "" && strconv.FormatInt(s.step, 10) != key {
		c.mu.Unlock()
		return nil, key == ""
	}
	c.used = time.Now()
	c.mu.Unlock()
	select {
	case <-s.ready:
		return &s.state, false
	case <-t.C:
	case <-ctx.Done():
	}
	return nil, true
}

// answer serves what other workers ask for: sums and totals, and copies of the state.
func (j *job) answer(ctx context.Context, m *wire.ChunkRequest) (c *wire.Chunk, done func()) {
	if m.Stream != streamState {
		return j.group.Answer(ctx, m)
	}
	return j.answerState(ctx, m), nil
}

func (j *job) answerState(ctx context.Context, m *wire.ChunkRequest) *wire.Chunk {
	state, later := j.copies.get(ctx, m.Key, j.kick)
	if later {
		return &wire.Chunk{Later: true}
	}
	if state == nil {
		return &wire.Chunk{Err: fmt.Sprintf("copy of step %s is no longer kept", m.Key)}
	}
	size := stateSize(state)
	lo, hi := min(max(m.Lo, 0), size), min(m.Hi, size)
	if hi < lo || hi-lo > 4*partBytes {
		return &wire.Chunk{Err: fmt.Sprintf("bytes [%d, %d) of a state of %d asked for, want at most %d", m.Lo, m.Hi, size, 4*partBytes)}
	}
	payload := encodeState(state, lo, hi)
	return &wire.Chunk{Key: strconv.FormatInt(state.Step, 10), Size: size, Payload: payload, Digest: digestPart(payload)}
}

// copyState takes a copy of a peer's state.
func (s *session) copyState(ctx context.Context, peer string) (trainer.State, error) {
	s.job.say("copying state", 0)
	defer s.job.say("", 0)
	began := time.Now()
	var state trainer.State
	first, err := s.askState(ctx, peer, "", 0, partBytes, func(c *wire.Chunk) (err error) {
		if state, err = newState(c.Payload, c.Size); err == nil {
			putState(&state, 0, c.Payload)
		}
		return err
	})
	if err != nil {
		return trainer.State{}, err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for lo := min(partBytes, first.Size); lo < first.Size; lo += partBytes {
		group.Go(func() error {
			_, err := s.askState(gctx, peer, first.Key, lo, min(lo+partBytes, first.Size), func(c *wire.Chunk) error {
				putState(&state, lo, c.Payload)
				return nil
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return trainer.State{}, err
	}
	s.job.copied(time.Since(began))
	return state, nil
}

// askState asks a peer for the bytes [lo, hi) of a copy until they come, and hands them to take. What it returns has no
// payload any more.
func (s *session) askState(ctx context.Context, peer, key string, lo, hi int64, take func(*wire.Chunk) error) (wire.Chunk, error) {
	once := func() (wire.Chunk, error) {
		actx, cancel := context.WithTimeout(ctx, 2*s.timeout)
		defer cancel()
		c, done, err := s.job.paths.Ask(actx, peer, &wire.ChunkRequest{Run: s.job.run.ID, Stream: streamState, From: s.id, Key: key, Lo: lo, Hi: hi})
		if done != nil {
			defer done()
		}
		if err != nil {
			return wire.Chunk{}, err
		}
		answer := *c
		answer.Payload = nil
		if c.Later || c.Err != "" {
			return answer, nil
		}
		if digestPart(c.Payload) != c.Digest {
			return answer, errors.New("payload does not have its digest")
		}
		if want := min(hi, c.Size) - lo; int64(len(c.Payload)) != want {
			return answer, fmt.Errorf("%d bytes came, want %d", len(c.Payload), want)
		}
		return answer, take(c)
	}
	for try := 0; ; try++ {
		c, err := once()
		switch {
		case err != nil && try >= 3:
			return c, err
		case err != nil:
		case c.Later:
			try = -1 // alive, in the middle of a step
		case c.Err != "":
			return c, errors.New(c.Err)
		default:
			return c, nil
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return c, err
		}
	}
}

// copied tells the beats how long a copy of a peer's state took.
func (j *job) copied(d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.beat.Copied = d.Seconds()
}
