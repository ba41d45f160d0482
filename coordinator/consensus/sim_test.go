package consensus

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus/disk"
)

var (
	seeds = flag.Int("seeds", 12, "random schedules of each simulation")
	from  = flag.Uint64("seed", 0, "replay this one schedule; 0 = seeds 1, 2, ...")
)

// schedules runs f for each seed, in virtual time. A failure names the command that replays it.
func schedules(t *testing.T, f func(t *testing.T, random *rand.Rand)) {
	first, last := uint64(1), uint64(*seeds)
	if testing.Short() {
		last = min(last, 3) // the race detector takes its time
	}
	if *from > 0 {
		first, last = *from, *from
	}
	for seed := first; seed <= last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("replay: go test ./coordinator/consensus -run '%s$' -seed %d -v", t.Name(), seed)
				}
			}()
			f(t, rand.New(rand.NewPCG(seed, 7)))
		})
	}
}

// world is a group in memory, in virtual time.
type world struct {
	t       *testing.T
	random  *rand.Rand
	failure time.Duration
	network *Network
	servers []Server
	disks   map[string]*disk.Memory
	log     *slog.Logger

	mu     sync.Mutex
	nodes  map[string]*Node
	fsm    map[string]*journal
	cutOff map[string]bool
	lossy  float64 // share of messages lost
}

func newWorld(t *testing.T, random *rand.Rand, names ...string) *world {
	w := &world{
		t: t, random: random, failure: time.Second, network: NewNetwork(time.Second), disks: map[string]*disk.Memory{},
		nodes: map[string]*Node{}, fsm: map[string]*journal{}, cutOff: map[string]bool{}, log: slog.New(slog.DiscardHandler),
	}
	if testing.Verbose() && *from > 0 {
		w.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	fate := rand.New(rand.NewPCG(random.Uint64(), 8)) // of messages; the lock guards it
	w.network.Faults(func(from, to string) (time.Duration, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.cutOff[from] != w.cutOff[to] || fate.Float64() < w.lossy {
			return 0, errors.New("cut")
		}
		return time.Duration(fate.ExpFloat64() * float64(300*time.Microsecond)), nil
	})
	for _, name := range names {
		w.servers = append(w.servers, Server{name, name})
		m := disk.NewMemory()
		m.OnSync(func() error { time.Sleep(400 * time.Microsecond); return nil })
		w.disks[name] = m
	}
	return w
}

func (w *world) start(name string) {
	w.t.Helper()
	j := &journal{}
	n, err := Open(Options{
		Name: name, FailureTimeout: w.failure, Log: w.log.With("node", name), Servers: w.servers,
		Transport: w.network.Join(name), Disk: w.disks[name],
	}, j)
	if err != nil {
		w.t.Fatalf("open %s: %v", name, err)
	}
	w.mu.Lock()
	w.nodes[name], w.fsm[name] = n, j
	w.mu.Unlock()
}

// stop ends a member; with power, what it had not synced is gone.
func (w *world) stop(name string, power bool) {
	if power {
		w.disks[name].Cut(w.random)
	}
	w.mu.Lock()
	n := w.nodes[name]
	delete(w.nodes, name)
	w.mu.Unlock()
	if err := n.Close(); err != nil && !power {
		w.t.Errorf("close %s: %v", name, err)
	}
}

func (w *world) up() (out []*Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.servers {
		if n := w.nodes[s.Name]; n != nil {
			out = append(out, n)
		}
	}
	return out
}

// leading returns a node that leads, or nil.
func (w *world) leading() *Node {
	for _, n := range w.up() {
		ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Millisecond)
		_, _, err := n.Lead(ctx)
		cancel()
		if err == nil {
			return n
		}
	}
	return nil
}

// client commits numbered entries one after another until stop, and returns those that were acknowledged.
func (w *world) client(stop <-chan struct{}) (acknowledged []string) {
	for i := 0; ; i++ {
		entry := fmt.Sprint("entry ", i)
		for {
			select {
			case <-stop:
				return acknowledged
			default:
			}
			if n := w.leading(); n != nil && n.Propose([]byte(entry)) == nil {
				acknowledged = append(acknowledged, entry)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// judge lets the world heal and checks that every member has every acknowledged entry, in order, and the same journal.
func (w *world) judge(acknowledged []string) {
	w.t.Helper()
	w.mu.Lock()
	w.cutOff, w.lossy = map[string]bool{}, 0
	w.mu.Unlock()
	for _, s := range w.servers {
		if w.nodes[s.Name] == nil {
			w.start(s.Name)
		}
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if n := w.leading(); n != nil && n.Propose([]byte("the end")) == nil {
			break
		}
		if time.Since(began) > time.Minute {
			for _, n := range w.up() {
				w.t.Logf("%s: %+v %v", n.Name(), n.Stats(), n.Err())
			}
			w.t.Fatal("nothing is committed a minute after all is well")
		}
	}
	time.Sleep(5 * time.Second)
	var first []string
	for _, s := range w.servers {
		have := w.fsm[s.Name].all()
		if first == nil {
			first = have
		}
		if !slices.Equal(have, first) {
			w.t.Errorf("journals of %s and %s differ: %d and %d entries", w.servers[0].Name, s.Name, len(first), len(have))
		}
		rest := have
		for _, entry := range acknowledged {
			at := slices.Index(rest, entry)
			if at < 0 {
				w.t.Fatalf("%s was acknowledged and %s does not have it", entry, s.Name)
			}
			rest = rest[at+1:]
		}
	}
	for name := range w.disks {
		if w.nodes[name] != nil {
			w.stop(name, false)
		}
	}
	w.t.Logf("%d entries acknowledged, %d applied", len(acknowledged), len(first))
}

// Power is cut at random points, of one member or of all at once: no acknowledged entry is lost.
func TestPowerLoss(t *testing.T) {
	schedules(t, func(t *testing.T, random *rand.Rand) {
		w := newWorld(t, random, "a", "b", "c")
		for _, s := range w.servers {
			w.start(s.Name)
		}
		stop := make(chan struct{})
		acknowledged := make(chan []string, 1)
		go func() { acknowledged <- w.client(stop) }()
		for range 6 {
			time.Sleep(time.Duration(random.ExpFloat64() * float64(2*time.Second)))
			down := []string{w.servers[random.IntN(3)].Name}
			if random.IntN(2) == 0 {
				down = []string{"a", "b", "c"}
			}
			if random.IntN(3) == 0 {
				if n := w.nodes[down[0]]; n != nil {
					if err := n.Snapshot(); err != nil {
						t.Error(err)
					}
				}
			}
			for _, name := range down { // the disks lose power at once, then the processes go
				w.disks[name].Cut(random)
			}
			for _, name := range down {
				w.stop(name, true)
			}
			time.Sleep(time.Duration(random.ExpFloat64() * float64(time.Second)))
			for _, name := range down {
				w.start(name)
			}
		}
		time.Sleep(3 * time.Second)
		close(stop)
		w.judge(<-acknowledged)
	})
}

// Messages are lost, members are cut off, restarted and told to hand over: no acknowledged entry is lost.
func TestNetworkFaults(t *testing.T) {
	schedules(t, func(t *testing.T, random *rand.Rand) {
		w := newWorld(t, random, "a", "b", "c", "d", "e")
		for _, s := range w.servers {
			w.start(s.Name)
		}
		stop := make(chan struct{})
		acknowledged := make(chan []string, 1)
		go func() { acknowledged <- w.client(stop) }()
		for range 8 {
			time.Sleep(time.Duration(random.ExpFloat64() * float64(2*time.Second)))
			victim := w.servers[random.IntN(len(w.servers))].Name
			switch random.IntN(4) {
			case 0:
				w.mu.Lock()
				w.cutOff = map[string]bool{victim: true, w.servers[random.IntN(len(w.servers))].Name: true}
				w.mu.Unlock()
			case 1:
				w.mu.Lock()
				w.cutOff, w.lossy = map[string]bool{}, 0.3*random.Float64()
				w.mu.Unlock()
			case 2:
				w.stop(victim, false)
				time.Sleep(time.Duration(random.ExpFloat64() * float64(time.Second)))
				w.start(victim)
			case 3:
				if n := w.leading(); n != nil {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					_ = n.Transfer(ctx) // it may fail in a storm; what counts is what was acknowledged
					cancel()
				}
			}
		}
		time.Sleep(2 * time.Second)
		close(stop)
		w.judge(<-acknowledged)
	})
}

// A leader whose disk is stuck falls silent: another commits within the failure timeout, and the entry that hung is
// committed or not, but never reported wrongly. When the disk is back the node follows; stuck for long, it stops.
func TestStuckDisk(t *testing.T) {
	for _, forever := range []bool{false, true} {
		t.Run(fmt.Sprint("forever ", forever), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, rand.New(rand.NewPCG(1, 1)), "a", "b", "c")
				for _, s := range w.servers {
					w.start(s.Name)
				}
				var old *Node
				for old == nil {
					old = w.leading()
				}
				time.Sleep(w.failure) // reports have come
				_, lost, err := old.Lead(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				release := make(chan struct{})
				w.disks[old.Name()].OnSync(func() error { <-release; return nil })
				hung := make(chan error, 1)
				go func() { hung <- old.Propose([]byte("hung")) }()
				began := time.Now()
				<-lost
				told := time.Since(began)
				var next *Node
				for next == nil || next == old {
					if next = w.leading(); next != nil && next.Propose([]byte("next")) != nil {
						next = nil
					}
					time.Sleep(10 * time.Millisecond)
				}
				took := time.Since(began)
				t.Logf("told after %v, the next commit after %v", told, took)
				if told > w.failure || took > 2*w.failure {
					t.Errorf("leader with a stuck disk: told after %v, next commit after %v; want within %v and %v", told, took, w.failure, 2*w.failure)
				}
				if err := <-hung; !errors.Is(err, ErrUncertain) {
					t.Errorf("Propose on a stuck disk = %v, want ErrUncertain", err)
				}
				if forever {
					<-old.Failed()
					if got := time.Since(began); got > old.timers.Stuck+w.failure {
						t.Errorf("it stopped after %v, want %v", got, old.timers.Stuck)
					}
					if _, _, err := old.Lead(t.Context()); err == nil {
						t.Error("a node that stopped leads")
					}
				}
				close(release)
				w.disks[old.Name()].OnSync(nil)
				if forever {
					w.stop(old.Name(), false)
					w.start(old.Name())
				}
				time.Sleep(3 * time.Second)
				if s := w.nodes[old.Name()].Stats(); s.Muted != "" || s.State == "Leader" {
					t.Errorf("when its disk is back: %+v, want a follower that speaks", s)
				}
				w.judge([]string{"next"})
			})
		})
	}
}
