package worker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// streamState is the stream of wire.ChunkRequest that carries copies of a worker's state.
const streamState = "state"

// copies serves copies of this worker's state to joiners. The driver takes a copy between two steps; parts are encoded
// as they are asked for.
type copies struct {
	timeout time.Duration

	mu     sync.Mutex
	wanted bool
	state  *trainer.State
	used   time.Time
	taken  chan struct{} // closed when a copy is taken
}

func newCopies(timeout time.Duration) *copies {
	return &copies{timeout: timeout, taken: make(chan struct{})}
}

// refresh takes a copy if one is wanted, and drops one that nobody has asked for in a while. The driver calls it
// between two steps.
func (c *copies) refresh(j *job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != nil && time.Since(c.used) > 10*c.timeout {
		c.state = nil
	}
	if !c.wanted || j.trainer == nil || j.steps < 0 {
		return
	}
	if c.state == nil || c.state.Step != j.steps {
		state := j.trainer.State()
		c.state = &state
	}
	c.wanted, c.used = false, time.Now()
	close(c.taken)
	c.taken = make(chan struct{})
}

// get returns the copy named key; "" asks for a fresh one, which comes between two steps.
func (c *copies) get(ctx context.Context, key string, kick func()) (state *trainer.State, later bool) {
	c.mu.Lock()
	if key != "" {
		defer c.mu.Unlock()
		if c.state == nil || strconv.FormatInt(c.state.Step, 10) != key {
			return nil, false
		}
		c.used = time.Now()
		return c.state, false
	}
	c.wanted = true
	taken := c.taken
	c.mu.Unlock()
	kick()
	t := time.NewTimer(c.timeout / 2)
	defer t.Stop()
	select {
	case <-taken:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state, c.state == nil
	case <-t.C:
	case <-ctx.Done():
	}
	return nil, true
}

// answer serves what other workers ask for: sums and totals, and copies of the state.
func (j *job) answer(ctx context.Context, m *wire.ChunkRequest) *wire.Chunk {
	if m.Stream != streamState {
		return j.group.Serve(ctx, m)
	}
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
	return &wire.Chunk{Key: strconv.FormatInt(state.Step, 10), Size: size, Payload: payload, Digest: wire.DigestBytes(payload)}
}

// copyState takes a copy of a peer's state.
func (s *session) copyState(ctx context.Context, peer string) (trainer.State, error) {
	s.job.say("copying state", 0)
	defer s.job.say("", 0)
	ask := func(ctx context.Context, key string, lo, hi int64) (*wire.Chunk, error) {
		for try := 0; ; try++ {
			actx, cancel := context.WithTimeout(ctx, 2*s.timeout)
			c, err := s.Link.Ask(actx, peer, &wire.ChunkRequest{Run: s.job.run.ID, Stream: streamState, From: s.id, Key: key, Lo: lo, Hi: hi})
			cancel()
			switch {
			case err != nil:
			case c.Later:
				try = -1 // alive, in the middle of a step
			case c.Err != "":
				return nil, errors.New(c.Err)
			case c.Digest != wire.DigestBytes(c.Payload):
				err = errors.New("payload does not have its digest")
			default:
				return c, nil
			}
			if try >= 3 {
				return nil, err
			}
			if err := sleep(ctx, 5*time.Millisecond); err != nil {
				return nil, err
			}
		}
	}
	first, err := ask(ctx, "", 0, partBytes)
	if err != nil {
		return trainer.State{}, err
	}
	whole := make([]byte, first.Size)
	n := int64(copy(whole, first.Payload))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for lo := n; lo < first.Size; lo += partBytes {
		group.Go(func() error {
			hi := min(lo+partBytes, first.Size)
			c, err := ask(gctx, first.Key, lo, hi)
			if err == nil && int64(len(c.Payload)) != hi-lo {
				err = fmt.Errorf("%d bytes came, want %d", len(c.Payload), hi-lo)
			}
			if err == nil {
				copy(whole[lo:hi], c.Payload)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return trainer.State{}, err
	}
	return decodeState(whole)
}

// A state on the wire, all little-endian: step int64, attempt int32, parameters P int64, tensors int32 (-1 = no maxima),
// then the parameters, the first and the second moments and the maxima as float32.
const stateHead = 8 + 4 + 8 + 4

func stateSize(s *trainer.State) int64 {
	return stateHead + 4*int64(len(s.Parameters)+len(s.First)+len(s.Second)+len(s.Maxima))
}

// encodeState returns the bytes [lo, hi) of a state's form on the wire.
func encodeState(s *trainer.State, lo, hi int64) []byte {
	head := binary.LittleEndian.AppendUint64(nil, uint64(s.Step))
	head = binary.LittleEndian.AppendUint32(head, uint32(s.Attempt))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(s.Parameters)))
	tensors := int32(len(s.Maxima))
	if s.Maxima == nil {
		tensors = -1
	}
	head = binary.LittleEndian.AppendUint32(head, uint32(tensors))

	out := make([]byte, 0, hi-lo+8)
	if lo < stateHead {
		out = append(out, head[lo:min(hi, stateHead)]...)
	}
	at := int64(stateHead)
	for _, v := range [][]float32{s.Parameters, s.First, s.Second, s.Maxima} {
		end := at + 4*int64(len(v))
		if a, b := max(lo, at), min(hi, end); a < b {
			i, j := (a-at)/4, (b-at+3)/4
			from := len(out)
			for _, x := range v[i:j] {
				out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
			}
			skip := int(a - at - 4*i) // a part may begin and end within a value
			copy(out[from:], out[from+skip:])
			out = out[:from+int(b-a)]
		}
		at = end
	}
	return out
}

// decodeState reads a whole state.
func decodeState(b []byte) (trainer.State, error) {
	if len(b) < stateHead {
		return trainer.State{}, fmt.Errorf("decode state: %d bytes, want at least %d", len(b), stateHead)
	}
	s := trainer.State{Step: int64(binary.LittleEndian.Uint64(b)), Attempt: int32(binary.LittleEndian.Uint32(b[8:]))}
	size := binary.LittleEndian.Uint64(b[12:])
	tensors := int32(binary.LittleEndian.Uint32(b[20:]))
	b = b[stateHead:]
	if size > uint64(len(b))/12 || tensors < -1 || uint64(len(b)) != 12*size+4*uint64(max(tensors, 0)) {
		return trainer.State{}, fmt.Errorf("decode state: %d bytes of values do not fit %d parameters and %d tensors", len(b), size, tensors)
	}
	take := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		b = b[4*n:]
		return out
	}
	s.Parameters, s.First, s.Second = take(int(size)), take(int(size)), take(int(size))
	if tensors >= 0 {
		s.Maxima = take(int(tensors))
	}
	return s, nil
}
