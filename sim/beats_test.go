package sim

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/consensus/disk"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus/membus"
	"github.com/counterpoint-ml/counterpoint/worker/workertest"
)

// cpu returns the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBeats is how much of a core a coordinator needs for the heartbeats of many members, five a second each, while a
// round is in flight: "cores" is everything in this process, the members' side and the bus included, so it is more than
// the coordinator's. "late" is the share of beats that were not answered within 400 ms, as workers give them up.
//
//	go test ./sim -run xxx -bench Beats -benchtime 1x
func BenchmarkBeats(b *testing.B) {
	for _, over := range []string{"memory", "nats"} {
		for _, members := range []int{1000, 5000} {
			b.Run(fmt.Sprintf("%s/members=%d", over, members), func(b *testing.B) { beats(b, over, members) })
		}
	}
}

func beats(b *testing.B, over string, members int) {
	const seconds = 8
	options := coordinator.Options{
		Dir: b.TempDir(), Cluster: coordinator.Config{FailureTimeout: failure}, Feed: workertest.Feed{Queries: 2 * members}, Suites: workertest.Suites{},
		Store: workertest.NewStore(), Version: "bench", Stay: true,
		Run: coordinator.Submission{
			Name: "toy", Identity: "abcdef0123", Identify: []byte("{}"), Spec: []byte("{}"), Folder: "store", Steps: 10, Settings: fsm.Settings{Keep: 1},
		},
		Consensus: func(o *consensus.Options) { o.Disk = disk.NewMemory() },
	}
	net := membus.New(1, time.Millisecond)
	if over == "memory" {
		options.Bus = func(disconnected func(name, reason string)) (*bus.Conn, error) {
			return net.Dial("coordinator", bus.Options{Name: "coordinator"}, disconnected)
		}
	}
	node, err := coordinator.Open(options)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() {
		_, err := node.Run(ctx)
		done <- err
	}()
	var newest, asked, late atomic.Int64
	listener, err := dial(ctx, net, node, "listener", over) // hears the rounds for all members, whose own affair they are
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	if _, err := bus.Subscribe(listener, wire.RoundSubject("toy-abcdef01"), func(r *wire.Round) { newest.Store(r.Revision) }); err != nil {
		b.Fatal(err)
	}
	var running sync.WaitGroup
	conns := make([]*bus.Conn, members)
	joined := make(chan error, members)
	slots := make(chan bool, 64)
	for i := range members {
		slots <- true
		name := fmt.Sprint("w", i)
		conn, err := dial(ctx, net, node, name, over)
		if err != nil {
			b.Fatal(err)
		}
		conns[i] = conn
		running.Go(func() {
			err := hello(ctx, conn, name)
			joined <- err
			<-slots
			if err != nil {
				return
			}
			member(ctx, conn, name, time.Duration(i)*failure/5/time.Duration(members), &newest, &asked, &late)
		})
	}
	for range members {
		if err := <-joined; err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(3 * time.Second)
	for b.Loop() {
		began, used := time.Now(), cpu(b)
		asked.Store(0)
		late.Store(0)
		time.Sleep(seconds * time.Second)
		took := time.Since(began).Seconds()
		b.ReportMetric((cpu(b)-used).Seconds()/took, "cores")
		b.ReportMetric(float64(asked.Load())/took, "beats/s")
		b.ReportMetric(float64(late.Load())/float64(max(asked.Load(), 1)), "late")
		b.ReportMetric(float64(len(node.State().Members)), "members")
	}
	cancel()
	running.Wait()
	for _, c := range conns {
		c.Close()
	}
	<-done
	if err := node.Close(); err != nil {
		b.Error(err)
	}
}

func dial(ctx context.Context, net *membus.Network, node *coordinator.Node, name, over string) (*bus.Conn, error) {
	o := bus.Options{Name: name, Log: slog.New(slog.DiscardHandler)}
	if over == "memory" {
		return net.Dial(name, o, nil)
	}
	o.Server = node.Server()
	return bus.Connect(ctx, o)
}

func hello(ctx context.Context, conn *bus.Conn, name string) error {
	for {
		hctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := bus.Request[wire.Welcome](hctx, conn, wire.HelloSubject, &wire.Hello{
			Worker: name, Name: name, Connection: name, ProtocolMin: wire.ProtocolMin, ProtocolMax: wire.ProtocolMax, Numerics: "toy", Threads: 1,
		})
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// member beats until ctx ends, with the initial parameters.
func member(ctx context.Context, conn *bus.Conn, name string, phase time.Duration, newest, asked, late *atomic.Int64) {
	time.Sleep(phase)
	tick := time.NewTicker(failure / 5)
	defer tick.Stop()
	beat := wire.Beat{Worker: name, Run: "toy-abcdef01", State: 0, Parameters: "initial", Size: 92}
	for {
		beat.Revision = max(beat.Revision, newest.Load())
		bctx, cancel := context.WithTimeout(ctx, failure*2/5)
		pulse, err := bus.Request[wire.Pulse](bctx, conn, wire.BeatSubject, &beat)
		cancel()
		asked.Add(1)
		if err != nil {
			late.Add(1)
		} else if pulse.Round != nil {
			beat.Revision = pulse.Round.Revision
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
