package collective

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// network carries questions between Groups in memory. It drops, repeats and damages them at random.
type network struct {
	mu     sync.Mutex
	rng    *rand.Rand
	groups map[string]*Group
	drop   float64
	damage float64
}

func (n *network) Ask(ctx context.Context, worker string, req *wire.ChunkRequest) (*wire.Chunk, func(), error) {
	n.mu.Lock()
	g := n.groups[worker]
	lost, late, damage, twice := n.rng.Float64() < n.drop, n.rng.Float64() < n.drop, n.rng.Float64() < n.damage, n.rng.IntN(4) == 0
	n.mu.Unlock()
	if g == nil || lost {
		return nil, nil, errors.New("no responders")
	}
	if twice {
		g.Serve(ctx, req)
	}
	c, done := g.Answer(ctx, req)
	if late {
		return nil, nil, errors.New("answer lost")
	}
	if damage && len(c.Payload) > 0 {
		c = &wire.Chunk{Payload: slices.Clone(c.Payload), Digest: c.Digest}
		c.Payload[len(c.Payload)/2] ^= 4
	}
	return c, done, nil
}

// add makes a worker; kill takes it off the network.
func (n *network) add(w string) *Group {
	g := New("run", n, Options{Part: 7, Window: 3, Poll: 20 * time.Millisecond})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups[w] = g
	return g
}

func (n *network) kill(w string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.groups, w)
}

func newNetwork(t *testing.T, drop float64) *network {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return &network{rng: rand.New(rand.NewPCG(seed, 1)), groups: map[string]*Group{}, drop: drop, damage: drop / 2}
}

// gradient is the value of parameter i in shard s.
func gradient(s, i int) int64 { return int64((s+1)*1_000_003*(i%17-8)) << (s % 20) }

// sumOf returns the exact sum over shards.
func sumOf(size int, shards ...int) *fixed.Sum {
	sum := fixed.NewSum([]int32{30, -2}, size)
	for _, s := range shards {
		for i := range sum.Values {
			sum.Values[i] += gradient(s, i)
		}
	}
	return sum
}

// closing makes a closing from a cover; the workers in owners share the parameters about equally.
func closing(number int32, size int, cover map[string][]int, owners ...string) *wire.Closing {
	c := &wire.Closing{Number: number}
	for w, shards := range cover {
		x := wire.Cover{Worker: w}
		for _, s := range shards {
			x.Shards = append(x.Shards, wire.Range{Lo: s, Hi: s + 1})
		}
		c.Cover = append(c.Cover, x)
	}
	for i, w := range owners {
		c.Owners = append(c.Owners, wire.Owner{Worker: w, Lo: int64(size * i / len(owners)), Hi: int64(size * (i + 1) / len(owners))})
	}
	return c
}

func TestReduceIsExactForAnyCover(t *testing.T) {
	const size, shards = 101, 12
	n := newNetwork(t, 0.2)
	want := sumOf(size, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	for _, workers := range []int{1, 2, 3, 5, 8} {
		t.Run(fmt.Sprint("W=", workers), func(t *testing.T) {
			cover, names := map[string][]int{}, []string{}
			for w := range workers {
				names = append(names, fmt.Sprint("w", workers, ".", w))
			}
			for s := range shards {
				w := names[n.rng.IntN(len(names))]
				cover[w] = append(cover[w], s)
			}
			c := closing(1, size, cover, names...)
			totals := make([]*fixed.Sum, workers+1)
			errs := make([]error, workers+1)
			var wg sync.WaitGroup
			for i, w := range append(slices.Clone(names), "follower") {
				g := n.add(w)
				step := Step{Self: w, Round: 1, Size: size, Closing: c, Others: names, Share: true}
				wg.Go(func() {
					if w == "follower" {
						totals[i], errs[i] = g.Follow(t.Context(), step)
					} else {
						totals[i], errs[i] = g.Reduce(t.Context(), step, sumOf(size, cover[w]...))
					}
				})
			}
			wg.Wait()
			for i, total := range totals {
				if errs[i] != nil {
					t.Fatalf("worker %d: %v", i, errs[i])
				}
				if !slices.Equal(total.Values, want.Values) || !slices.Equal(total.Exponents, want.Exponents) {
					t.Errorf("worker %d: total differs from the sum over all shards", i)
				}
			}
		})
	}
}

// A worker named by the first closing dies after an owner has taken its sum: its shards go to a worker whose own
// sum that owner has taken too. Sums of the first closing must not be in the total of the second.
func TestOverlappingSumsAfterAReLease(t *testing.T) {
	const size = 40
	n := newNetwork(t, 0)
	a, b, c := n.add("a"), n.add("b"), n.add("c")
	first := closing(1, size, map[string][]int{"a": {0, 1}, "b": {2}, "c": {3}}, "a", "b", "c")

	ctx, supersede := context.WithCancel(t.Context())
	sums := map[string]*fixed.Sum{"a": sumOf(size, 0, 1), "b": sumOf(size, 2), "c": sumOf(size, 3)}
	var wg sync.WaitGroup
	// c does not contribute yet: a and b exchange theirs, and no total can be made.
	for w, g := range map[string]*Group{"a": a, "b": b} {
		wg.Go(func() {
			if _, err := g.Reduce(ctx, Step{Self: w, Round: 1, Size: size, Closing: first, Others: []string{"a", "b", "c"}}, sums[w]); !errors.Is(err, context.Canceled) {
				t.Errorf("Reduce of %s under closing 1 = %v, want context.Canceled", w, err)
			}
		})
	}
	req := &wire.ChunkRequest{Run: "run", Stream: StreamSum, Round: 1, Closing: 1, Lo: 0, Hi: 7}
	for a.Serve(ctx, req).Payload == nil || b.Serve(ctx, req).Payload == nil {
		time.Sleep(time.Millisecond)
	}
	n.kill("a")
	supersede()
	wg.Wait()

	// b and c share a's shards: their sums now overlap those of the first closing.
	second := closing(2, size, map[string][]int{"b": {0, 2}, "c": {1, 3}}, "c", "b")
	sums["b"], sums["c"] = sumOf(size, 0, 2), sumOf(size, 1, 3)
	want := sumOf(size, 0, 1, 2, 3)
	for w, g := range map[string]*Group{"b": b, "c": c} {
		wg.Go(func() {
			total, err := g.Reduce(t.Context(), Step{Self: w, Round: 1, Size: size, Closing: second, Others: []string{"b", "c"}}, sums[w])
			if err != nil {
				t.Errorf("Reduce of %s under closing 2: %v", w, err)
				return
			}
			if !slices.Equal(total.Values, want.Values) {
				t.Errorf("Reduce of %s under closing 2 = %v, want %v", w, total.Values, want.Values)
			}
		})
	}
	wg.Wait()
	if got := b.Serve(t.Context(), req); got.Payload != nil {
		t.Error("b still answers for its sum under closing 1")
	}
}

// An owner dies after one worker has finished: the finished worker alone has that owner's range. The next closing
// is complete, and the totals of the first one are good for everybody.
func TestOwnerLostAfterAFinishedWorker(t *testing.T) {
	const size = 40
	n := newNetwork(t, 0)
	a, b, c := n.add("a"), n.add("b"), n.add("c")
	cover := map[string][]int{"a": {0}, "b": {1}, "c": {2}}
	first := closing(1, size, cover, "a", "b")
	want := sumOf(size, 0, 1, 2)
	step := func(w string, cl *wire.Closing) Step {
		return Step{Self: w, Round: 1, Size: size, Closing: cl, Others: []string{"a", "b", "c"}}
	}
	// c answers for its sum, but its own totals do not arrive in time.
	h := c.hold(key{1, 0})
	h.offer(1, sumOf(size, 2))
	var wg sync.WaitGroup
	for w, g := range map[string]*Group{"a": a, "b": b} {
		wg.Go(func() {
			if total, err := g.Reduce(t.Context(), step(w, first), sumOf(size, cover[w]...)); err != nil || !slices.Equal(total.Values, want.Values) {
				t.Errorf("Reduce of %s = %v, %v, want the sum of all", w, total, err)
			}
		})
	}
	wg.Wait()
	n.kill("b")
	second := &wire.Closing{Number: 2, Complete: true, Cover: first.Cover, Owners: []wire.Owner{{Worker: "a", Lo: 0, Hi: size}}}
	total, err := c.Reduce(t.Context(), step("c", second), sumOf(size, 2))
	if err != nil || !slices.Equal(total.Values, want.Values) {
		t.Errorf("Reduce of c under the complete closing = %v, %v, want the sum of all", total, err)
	}
}

func TestReleaseKeepsTotalsForFollowers(t *testing.T) {
	n := newNetwork(t, 0)
	a, f := n.add("a"), n.add("f")
	for round := int64(1); round <= 7; round++ {
		c := closing(1, 9, map[string][]int{"a": {int(round)}}, "a")
		if _, err := a.Reduce(t.Context(), Step{Self: "a", Round: round, Size: 9, Closing: c, Share: true}, sumOf(9, int(round))); err != nil {
			t.Fatal(err)
		}
		a.Release(round+1, false)
	}
	for round := int64(1); round <= 7; round++ {
		c := closing(1, 9, map[string][]int{"a": {int(round)}}, "a")
		total, err := f.Follow(t.Context(), Step{Self: "f", Round: round, Size: 9, Closing: c})
		switch {
		case round <= 3 && !errors.Is(err, ErrGone):
			t.Errorf("Follow(round %d) = %v, want ErrGone", round, err)
		case round > 3 && (err != nil || !slices.Equal(total.Values, sumOf(9, int(round)).Values)):
			t.Errorf("Follow(round %d) = %v, %v, want the round's total", round, total, err)
		}
	}
}

func TestSpans(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 200 {
		var s spans
		var set [64]bool
		for range rng.IntN(9) {
			lo := rng.Int64N(64)
			hi := lo + 1 + rng.Int64N(64-lo)
			s = s.add(lo, hi)
			for i := lo; i < hi; i++ {
				set[i] = true
			}
		}
		var missing [64]bool
		for _, p := range s.missing(0, 64).parts(5) {
			for i := p.lo; i < p.hi; i++ {
				missing[i] = true
			}
		}
		for i := range set {
			if set[i] == missing[i] {
				t.Fatalf("spans %v: parameter %d present %v, missing %v", s, i, set[i], missing[i])
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode([]int32{3, -4}, []int64{1, -2, 3}), 3)
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, 1)
	f.Fuzz(func(t *testing.T, b []byte, want int) {
		if want < 0 || want > 1<<12 {
			return
		}
		e, code, err := decode(b, want)
		if err != nil {
			return
		}
		values := make([]int64, want)
		if err := unpack(values, code, false); err != nil {
			return
		}
		e2, code, err := decode(encode(e, values), want)
		if err != nil || !slices.Equal(e, e2) {
			t.Errorf("decode(encode(%v, %v)) = %v, %v", e, values, e2, err)
		}
		v2 := make([]int64, want)
		if err := unpack(v2, code, true); err != nil || !slices.Equal(values, v2) {
			t.Errorf("unpack(encode(%v, %v)) = %v, %v", e, values, v2, err)
		}
	})
}

// quiet is a network that loses nothing and is not locked by its dice.
type quiet struct{ *network }

func (q quiet) Ask(ctx context.Context, worker string, req *wire.ChunkRequest) (*wire.Chunk, func(), error) {
	c, done := q.groups[worker].Answer(ctx, req)
	return c, done, nil
}

// near is a network of Groups in one process.
type near struct{ *network }

func (near) Lent(string, int) {}

func (n near) Near(worker string) *Group {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.groups[worker]
}
