package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/progress"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/worker"
)

// launch says how a prepared run is led.
type launch struct {
	workers int    // in this process
	listen  string // address of the NATS server; "" = connections of this process only
	resume  bool   // a paused or failed run goes on
	stay    bool   // keep leading while the run is paused
	view    progress.View
	log     *slog.Logger
	started func(*coordinator.Node)
	drain   <-chan struct{} // closed: finish the step, write a checkpoint, pause
}

// lead runs a coordinator with the launch's local workers until the run is over or paused.
func (p *prepared) lead(ctx context.Context, l launch) (coordinator.Outcome, error) {
	sub, err := p.submission()
	if err != nil {
		return coordinator.Outcome{}, err
	}
	options := coordinator.Options{
		Dir: p.dir, Cluster: p.config.Cluster, Run: sub, Feed: p.set, Store: store{}, Log: l.log, Version: version,
		Resume: l.resume, Alone: l.listen == "", Stay: l.stay, Events: l.view.Event,
	}
	options.Cluster.Listen = l.listen
	if len(p.suites) > 0 {
		options.Suites = p.suites
	}
	node, err := coordinator.Open(options)
	if err != nil {
		return coordinator.Outcome{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	agents, err := p.crew(ctx, node, l)
	if err != nil {
		cancel()
		return coordinator.Outcome{}, errors.Join(err, node.Close())
	}
	if l.started != nil {
		l.started(node)
	}
	stop := context.AfterFunc(closed(ctx, l.drain), func() {
		if ctx.Err() == nil {
			node.Stop("stopped by the user")
		}
	})
	outcome, err := node.Run(ctx)
	stop()
	cancel()
	agents()
	return outcome, errors.Join(err, node.Close())
}

// crew starts the local workers and returns what waits for their end.
func (p *prepared) crew(ctx context.Context, node *coordinator.Node, l launch) (wait func(), err error) {
	threads := p.config.Cluster.Threads
	if threads == 0 && l.workers > 0 {
		threads = max(1, runtime.GOMAXPROCS(0)/l.workers)
	}
	c := newCrew(threads, keepBytes(l.workers), l.log)
	var running sync.WaitGroup
	for i := range l.workers {
		name := fmt.Sprintf("local-%d", i)
		connection := connectionName(name)
		conn, err := bus.Connect(ctx, bus.Options{Server: node.Server(), Name: connection, FailureTimeout: p.config.Cluster.FailureTimeout, Log: l.log})
		if err != nil {
			return running.Wait, err
		}
		config, dev, err := c.member(name, worker.NewLink(conn), connection)
		if err != nil {
			conn.Close()
			return running.Wait, err
		}
		config.OneRun = true
		agent, err := worker.New(config)
		if err != nil {
			return running.Wait, err
		}
		running.Go(func() {
			defer dev.Close()
			defer conn.Close()
			if err := agent.Run(ctx); err != nil && ctx.Err() == nil {
				l.log.Error("local worker ended", "worker", name, "error", err)
				var refused *worker.RefusedError
				if errors.As(err, &refused) {
					fmt.Fprintln(os.Stderr, "worker", name, "was refused:", refused.Reason)
				}
			}
		})
	}
	return running.Wait, nil
}

// store is the coordinator's view of the checkpoints: it verifies and removes what workers write.
type store struct{}

// Verify implements coordinator.Store.
func (store) Verify(path, digest string) error {
	report := checkpoints.Verify(context.Background(), path, checkpoints.Hashers{})
	if err := report.Err(); err != nil {
		return err
	}
	if got := report.Manifest.Digest(); digest != "" && got != digest {
		return fmt.Errorf("manifest of %s has digest %.16s, the committed one is %.16s", path, got, digest)
	}
	return nil
}

// Remove implements coordinator.Store.
func (store) Remove(path string) error {
	return checkpoints.NewLocal(filepath.Dir(path)).Remove(context.Background(), filepath.Base(path))
}
