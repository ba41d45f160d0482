package trainer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// hub is leader and network of one step among workers in one process. It leases shards in random order, some to two
// workers at once; loses acceptances; withdraws closings before and after sums were sent; and kills workers. Its
// state is level-triggered, as a Round is: a worker that comes late sees what holds now.
type hub struct {
	mu      sync.Mutex
	changed *sync.Cond
	r       *rand.Rand
	shards  []*data.Shard
	rows    []float32
	width   int

	alive    []bool
	embedded []bool
	try      Attempt
	owner    []int // worker whose sum has the shard; -1: not done
	observed []float32
	losses   []float64
	leased   map[lease]bool // being computed
	closed   bool
	closing  int32
	sums     map[int]*fixed.Sum // of this closing
	total    *fixed.Sum
	withdraw int // closings still to be withdrawn

	refused, lost, withdrawn, killed, repeated int // events, for the tests to check that they happened
}

type lease struct {
	phase         Phase
	worker, shard int
}

func newHub(r *rand.Rand, shards []*data.Shard, slots, width, workers, tensors int, maxima []float32) *hub {
	h := &hub{r: r, shards: shards, width: width, rows: make([]float32, slots*width), leased: map[lease]bool{}}
	h.changed = sync.NewCond(&h.mu)
	h.alive, h.embedded = slices.Repeat([]bool{true}, workers), make([]bool, len(shards))
	h.withdraw = r.IntN(3)
	h.begin(0, maxima, tensors)
	return h
}

func (h *hub) begin(number int32, maxima []float32, tensors int) {
	h.try = Attempt{Number: number, Maxima: maxima, Shards: len(h.shards)}
	h.observed, h.losses = make([]float32, tensors), make([]float64, len(h.shards))
	h.owner = slices.Repeat([]int{-1}, len(h.shards))
	maps.DeleteFunc(h.leased, func(l lease, _ bool) bool { return l.phase == Backward })
}

// member is one worker's Fleet.
type member struct {
	*hub
	w       int
	attempt int32
	calls   int // until it is killed; below 0: never
}

var errKilled = errors.New("killed")

// enter locks the hub, counts a call and kills the worker at its hour.
func (m *member) enter() error {
	m.mu.Lock()
	if m.calls == 0 && m.total == nil {
		m.die()
	}
	m.calls--
	return m.check()
}

func (m *member) check() error {
	if !m.alive[m.w] {
		return errKilled
	}
	return nil
}

// die withdraws what the worker held. Its shards are leased again, and with them those that are in its sum.
func (m *member) die() {
	m.alive[m.w] = false
	m.killed++
	maps.DeleteFunc(m.leased, func(l lease, _ bool) bool { return l.worker == m.w })
	for i, w := range m.owner {
		if w == m.w {
			m.owner[i], m.closed = -1, false
		}
	}
	m.changed.Broadcast()
}

func (m *member) wait(until func() bool) error {
	for !until() {
		m.changed.Wait()
		if err := m.check(); err != nil {
			return err
		}
	}
	return nil
}

// pick returns a shard that the worker may compute: one that nobody else computes, or now and then one that
// somebody does.
func (m *member) pick(phase Phase) (int, bool) {
	for _, i := range m.r.Perm(len(m.shards)) {
		if (phase == Embed && m.embedded[i]) || (phase == Backward && m.owner[i] >= 0) {
			continue
		}
		held := false
		for w := range m.alive {
			held = held || m.leased[lease{phase, w, i}]
		}
		if !held || m.r.IntN(4) == 0 {
			m.leased[lease{phase, m.w, i}] = true
			return i, true
		}
	}
	return 0, false
}

func (m *member) Leased(_ context.Context, phase Phase) iter.Seq2[*data.Shard, error] {
	over := func() bool {
		if phase == Embed {
			return !slices.Contains(m.embedded, false)
		}
		return m.closed || m.attempt != m.try.Number
	}
	return func(yield func(*data.Shard, error) bool) {
		for {
			err := m.enter()
			shard, found := 0, false
			if err == nil {
				err = m.wait(func() bool {
					if !over() {
						shard, found = m.pick(phase)
					}
					return found || over()
				})
			}
			m.mu.Unlock()
			if err != nil {
				yield(nil, err)
				return
			}
			if !found || !yield(m.shards[shard], nil) {
				return
			}
		}
	}
}

func (m *member) Share(_ context.Context, shard *data.Shard, rows []float32) error {
	defer m.mu.Unlock()
	if err := m.enter(); err != nil {
		return err
	}
	for i, text := range shard.Texts {
		at := m.rows[int(text.Slot)*m.width:][:m.width]
		if row := rows[i*m.width:][:m.width]; m.embedded[shard.Index] && !slices.Equal(at, row) {
			return fmt.Errorf("shard %d embedded twice with different bits", shard.Index)
		}
		copy(at, rows[i*m.width:])
	}
	m.embedded[shard.Index] = true
	delete(m.leased, lease{Embed, m.w, shard.Index})
	m.changed.Broadcast()
	return nil
}

func (m *member) Gather(context.Context) ([]float32, error) {
	defer m.mu.Unlock()
	return m.rows, m.enter()
}

func (m *member) Attempt(context.Context) (Attempt, error) {
	defer m.mu.Unlock()
	err := m.enter()
	m.attempt = m.try.Number
	return m.try, err
}

func (m *member) Done(_ context.Context, d Done) (bool, error) {
	defer m.mu.Unlock()
	if err := m.enter(); err != nil {
		return false, err
	}
	delete(m.leased, lease{Backward, m.w, d.Shard})
	if m.attempt != m.try.Number || m.owner[d.Shard] >= 0 {
		m.refused++
		return false, nil
	}
	m.owner[d.Shard], m.losses[d.Shard] = m.w, d.Loss
	fixed.MaxInto(m.observed, d.Maxima)
	m.close()
	if m.r.IntN(10) == 0 {
		m.lost++ // the answer is lost on its way; the closing will name the shard all the same
		return false, nil
	}
	return true, nil
}

// close ends phase C when every shard is done.
func (h *hub) close() {
	if slices.Contains(h.owner, -1) {
		return
	}
	tensors := len(h.observed)
	if _, over := fixed.Exceeds(h.observed, fixed.Exponents(h.try.Maxima, tensors, len(h.shards)), len(h.shards)); over {
		h.repeated++
		h.begin(h.try.Number+1, h.observed, tensors)
	} else {
		h.closed, h.sums = true, map[int]*fixed.Sum{}
		h.closing++
	}
	h.changed.Broadcast()
}

// release withdraws the closing: one or two shards are leased again, as if the worker that summed them had been lost.
// It lives on, and must subtract them if another takes them.
func (h *hub) release() {
	h.withdraw--
	h.withdrawn++
	for range 2 {
		h.owner[h.r.IntN(len(h.owner))] = -1
	}
	h.closed = false
	h.changed.Broadcast()
}

func (m *member) Close(context.Context) (Closing, error) {
	defer m.mu.Unlock()
	if err := m.enter(); err != nil {
		return Closing{}, err
	}
	if m.attempt != m.try.Number {
		return Closing{}, ErrOverflow
	}
	if m.closed && m.total == nil && m.withdraw > 0 && m.r.IntN(4) == 0 {
		m.release()
	}
	if !m.closed {
		return Closing{}, ErrReleased
	}
	c := Closing{Number: m.closing, Maxima: slices.Clone(m.observed)}
	for i, loss := range m.losses {
		if c.Loss += loss; m.owner[i] == m.w {
			c.Shards = append(c.Shards, i)
		}
	}
	return c, nil
}

func (m *member) Reduce(_ context.Context, c Closing, sum *fixed.Sum) (*fixed.Sum, error) {
	defer m.mu.Unlock()
	if err := m.enter(); err != nil {
		return nil, err
	}
	current := func() bool { return m.closed && m.closing == c.Number }
	if current() && m.total == nil {
		m.sums[m.w] = sum
		if m.withdraw > 0 && m.r.IntN(2) == 0 {
			m.release() // after sums were sent
		} else if err := m.combine(); err != nil {
			return nil, err
		}
	}
	if err := m.wait(func() bool { return m.total != nil || !current() }); err != nil {
		return nil, err
	}
	if m.total == nil {
		return nil, ErrReleased
	}
	return m.total, nil
}

// combine adds the sums when every worker that the closing names has sent its own.
func (h *hub) combine() error {
	for _, w := range h.owner {
		if h.sums[w] == nil {
			return nil
		}
	}
	for _, s := range h.sums {
		if h.total == nil {
			h.total = s.Clone()
		} else if err := h.total.Add(s); err != nil {
			return err
		}
	}
	h.changed.Broadcast()
	return nil
}
