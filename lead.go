package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/progress"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/worker"
)

// launch says how a prepared run is led.
type launch struct {
	workers int    // in this process
	listen  string // address of the NATS server; "" = connections of this process only
	name    string // which of cluster.coordinators this is; "" = it is alone
	resume  bool   // a paused or failed run goes on
	stay    bool   // other runs may be submitted, and the process outlives its own
	view    progress.View
	log     *slog.Logger
	started func(*coordinator.Node)
	api     func(context.Context, *coordinator.Node) (*apiServer, error) // nil = none
	drain   <-chan struct{}                                              // closed: finish the step, write a checkpoint, pause
}

// lead runs a coordinator with the launch's local workers until the run is over or paused.
func (p *prepared) lead(ctx context.Context, l launch) (coordinator.Outcome, error) {
	sub, err := p.submission()
	if err != nil {
		return coordinator.Outcome{}, err
	}
	kept := newStore(l.log)
	defer kept.close()
	if err := p.reach(ctx, l.log); err != nil {
		return coordinator.Outcome{}, err
	}
	options := coordinator.Options{
		Dir: p.dir, Cluster: p.config.Cluster, Run: sub, Feed: p.set, Store: kept, Log: l.log, Version: version,
		Resume: l.resume, Alone: l.listen == "" && p.config.Cluster.NATS.URL == "", Events: l.view.Event, Name: l.name,
	}
	options.Cluster.Listen = l.listen
	if l.stay {
		options.Stay, options.Host = true, (&hosting{dir: p.dir, log: l.log, group: l.name != ""}).open
	}
	if len(p.suites) > 0 {
		options.Suites = p.suites
	}
	node, err := coordinator.Open(options)
	if err != nil {
		return coordinator.Outcome{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	agents, err := p.crew(ctx, node, l, cancel)
	if err != nil {
		cancel(nil)
		return coordinator.Outcome{}, errors.Join(err, node.Close())
	}
	var served *apiServer
	if l.api != nil {
		if served, err = l.api(ctx, node); err != nil {
			cancel(nil)
			agents()
			return coordinator.Outcome{}, errors.Join(err, node.Close())
		}
	}
	if l.started != nil {
		l.started(node)
	}
	stop := context.AfterFunc(closed(ctx, l.drain), func() {
		switch {
		case ctx.Err() != nil:
		case l.name != "":
			node.Leave(ctx)
		default:
			node.Stop(byUser)
		}
	})
	outcome, err := node.Run(ctx)
	stop()
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause // why the workers gave up, not that the leader was told to
	}
	cancel(nil)
	agents()
	kept.finish()
	return outcome, errors.Join(err, served.close(), node.Close())
}

// crew starts the local workers and returns what waits for their end. When the last of them has failed and no other
// worker can join, it gives up: nobody is left to compute.
func (p *prepared) crew(ctx context.Context, node *coordinator.Node, l launch, giveUp context.CancelCauseFunc) (wait func(), err error) {
	threads := p.config.Cluster.Threads
	if threads == 0 && l.workers > 0 {
		threads = max(1, runtime.GOMAXPROCS(0)/l.workers)
	}
	c := newCrew(threads, keepBytes(l.workers), l.log)
	if host, _, splitErr := net.SplitHostPort(l.listen); splitErr == nil && l.workers > 0 && host != "" && !net.ParseIP(host).IsUnspecified() {
		if c.direct, c.address, err = listenDirect(net.JoinHostPort(host, "0"), "", p.config.Cluster.FailureTimeout, node.Source(), l.log); err != nil {
			return func() {}, err
		}
	}
	var running sync.WaitGroup
	wait = func() {
		running.Wait()
		if c.direct != nil {
			c.direct.Close()
		}
	}
	var left atomic.Int64
	left.Store(int64(l.workers))
	for i := range l.workers {
		name := fmt.Sprintf("local-%d", i)
		o := bus.Options{Server: node.Server(), URL: p.config.Cluster.NATS.URL, FailureTimeout: p.config.Cluster.FailureTimeout}
		m, err := c.member(ctx, name, o, func(config *worker.Config) { config.OneRun = true })
		if err != nil {
			return wait, err
		}
		running.Go(func() {
			if err := m.run(ctx); err != nil && ctx.Err() == nil {
				l.log.Error("local worker ended", "worker", name, "error", err)
				if left.Add(-1) == 0 && l.listen == "" {
					giveUp(fmt.Errorf("every local worker ended; the last one, %s: %w", name, err))
				}
			}
		})
	}
	return wait, nil
}
