//go:build unix

package worker

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
	"github.com/counterpoint-ml/counterpoint/worker/collective"
	"github.com/counterpoint-ml/counterpoint/worker/direct"
)

// directly is a collective.Transport over direct connections alone.
type directly struct {
	node  *direct.Node
	self  string
	peers map[string]direct.Peer
}

func (d *directly) Ask(ctx context.Context, worker string, q *wire.ChunkRequest) (*wire.Chunk, func(), error) {
	return d.node.Ask(ctx, d.self, d.peers[worker], q)
}

// relayed is one over NATS alone.
type relayed struct{ link Link }

func (r relayed) Ask(ctx context.Context, worker string, q *wire.ChunkRequest) (*wire.Chunk, func(), error) {
	c, err := r.link.Ask(ctx, worker, q)
	return c, nil, err
}

// inside is one within a process.
type inside struct {
	directly
	groups map[string]*collective.Group
}

func (p *inside) Near(worker string) *collective.Group { return p.groups[worker] }
func (*inside) Lent(string, int)                       {}

// rawBytes is how much rawLoopback sends in all.
const rawBytes = 192 << 20

// processorTime is what this process has used of all cores.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rawLoopback returns the bytes a second, in all, of connections over loopback, all at once, at 64 KiB a write and a read.
func rawLoopback(b *testing.B, connections int) float64 {
	const size, each = 64 << 10, rawBytes
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var all sync.WaitGroup
	ends := make([]net.Conn, connections)
	for i := range ends {
		all.Go(func() {
			c, err := l.Accept()
			if err != nil {
				b.Error(err)
				return
			}
			ends[i] = c
		})
	}
	starts := make([]net.Conn, connections)
	for i := range starts {
		if starts[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
			b.Fatal(err)
		}
	}
	all.Wait()
	began := time.Now()
	for i := range connections {
		all.Go(func() {
			buf := make([]byte, size)
			for n := 0; n < each/connections; n += size {
				if _, err := starts[i].Write(buf); err != nil {
					b.Error(err)
					return
				}
			}
			starts[i].Close()
		})
		all.Go(func() {
			buf := make([]byte, size)
			for {
				if _, err := io.ReadFull(ends[i], buf); err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	seconds := time.Since(began).Seconds()
	for _, c := range ends {
		c.Close()
	}
	return float64(each/connections/size*size*connections) / seconds
}

// gradientSum is the sum of a worker's shards as steps have it: normal values whose largest has 38 bits.
func gradientSum(size, worker int) *fixed.Sum {
	s := fixed.NewSum(make([]int32, 56), size)
	r := mathrand.New(mathrand.NewPCG(uint64(worker), 7))
	n := min(size, 1<<20)
	for i := range s.Values[:n] {
		s.Values[i] = int64(r.NormFloat64() * (1 << 33))
	}
	for at := n; at < size; at += n {
		copy(s.Values[at:], s.Values[:n])
	}
	return s
}

// BenchmarkExchange sums gradients over W workers of this process: reduce by owners and redistribute, over each path.
// GB/s is 2(W-1)/W * 4 B * parameters a worker over the median wall time; raw is plain TCP over loopback at 64 KiB with as
// many connections, all workers' together, measured before and after; %raw is GB/s against a worker's share of raw (raw/W:
// what each would have if all sent that much at once), %total against all of raw. %cpu is %raw in processor time instead of
// wall time, which says on a busy machine what a quiet one would do.
//
//	go test -run XXX -bench Exchange -benchtime 5x ./worker
func BenchmarkExchange(b *testing.B) {
	for _, path := range []string{"direct", "nats", "nats-inprocess", "memory"} {
		for _, size := range []int{8_750_000, 40_400_000} {
			for _, workers := range []int{2, 3} {
				b.Run(fmt.Sprintf("%s/%dMB/W=%d", path, size*4/1e6, workers), func(b *testing.B) { benchmarkExchange(b, path, size, workers) })
			}
		}
	}
}

func benchmarkExchange(b *testing.B, path string, size, workers int) {
	const connections = 2
	var names []string
	groups, sums := map[string]*collective.Group{}, map[string]*fixed.Sum{}
	peers := map[string]direct.Peer{}
	secret := make([]byte, 32)
	rand.Read(secret)
	log := slog.New(slog.DiscardHandler)
	var server *bus.Server
	if path == "nats" || path == "nats-inprocess" {
		o := bus.ServerOptions{FailureTimeout: time.Second, Log: log}
		if path == "nats" {
			o.Listen = "127.0.0.1:0"
		}
		var err error
		if server, err = bus.StartServer(o); err != nil {
			b.Fatal(err)
		}
		defer server.Close()
	}
	for w := range workers {
		name := fmt.Sprint("w", w)
		names = append(names, name)
		sums[name] = gradientSum(size, w)
		switch path {
		case "direct":
			node, err := direct.Listen(direct.Options{
				Listen: "127.0.0.1:0", Connections: connections, Buffer: collective.Buffer, Recycle: collective.Recycle,
			})
			if err != nil {
				b.Fatal(err)
			}
			defer node.Close()
			g := collective.New("run", &directly{node, name, peers}, collective.Options{})
			if _, err := node.Attend("run", name, secret, g.Answer); err != nil {
				b.Fatal(err)
			}
			groups[name], peers[name] = g, direct.Peer{Run: "run", Worker: name, Address: node.Address(), Secret: secret}
		case "memory":
			groups[name] = collective.New("run", &inside{groups: groups}, collective.Options{})
		default:
			o := bus.Options{Server: server, Name: name, Log: log}
			if path == "nats" {
				o = bus.Options{URL: server.URL(), Name: name, Log: log}
			}
			conn, err := bus.Connect(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			link := NewLink(conn)
			g := collective.New("run", relayed{link}, collective.Options{})
			stop, err := link.Attend("run", name, Handlers{
				Round: func(*wire.Round) {}, Rows: func(*wire.Rows) {}, AskRows: func(context.Context, *wire.RowsRequest) {}, Chunk: g.Serve,
			})
			if err != nil {
				b.Fatal(err)
			}
			defer stop()
			groups[name] = g
		}
	}
	c := &wire.Closing{Number: 1}
	for i, w := range names {
		c.Cover = append(c.Cover, wire.Cover{Worker: w, Shards: []wire.Range{{Lo: i, Hi: i + 1}}})
		c.Owners = append(c.Owners, wire.Owner{Worker: w, Lo: int64(size * i / workers), Hi: int64(size * (i + 1) / workers)})
	}
	round := int64(0)
	exchange := func() time.Duration {
		round++
		began := time.Now()
		var all sync.WaitGroup
		for i, w := range names {
			all.Go(func() {
				others := slices.Delete(slices.Clone(names), i, i+1)
				step := collective.Step{Self: w, Round: round, Size: int64(size), Closing: c, Others: others}
				if _, err := groups[w].Reduce(b.Context(), step, sums[w]); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		d := time.Since(began)
		for _, g := range groups {
			g.Release(round+1, true)
		}
		return d
	}
	exchange() // connections, memory
	at := processorTime()
	raw := rawLoopback(b, workers*(workers-1)*connections)
	rawTime := processorTime() - at
	var took []time.Duration
	at = processorTime()
	for b.Loop() {
		took = append(took, exchange())
	}
	spent := processorTime() - at
	raw = (raw + rawLoopback(b, workers*(workers-1)*connections)) / 2
	slices.Sort(took)
	rate := 2 * float64(workers-1) / float64(workers) * 4 * float64(size) / took[len(took)/2].Seconds()
	b.ReportMetric(rate/1e9, "GB/s")
	b.ReportMetric(raw/1e9, "raw-GB/s")
	b.ReportMetric(100*rate*float64(workers)/raw, "%raw")
	b.ReportMetric(100*rate/raw, "%total")
	nominal := 2 * float64(workers-1) * 4 * float64(size) * float64(len(took))
	b.ReportMetric(100*(rawTime.Seconds()/rawBytes)/(spent.Seconds()/nominal), "%cpu")
}
