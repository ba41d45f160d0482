// Package worker is the agent of one worker: it says hello, holds leases, drives the trainer's steps, reports, keeps
// sums and totals until they are committed, writes checkpoints, and drains on request.
//
// All that it does follows from the newest wire.Round compared with what it has done. DESIGN.md tells how.
package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/worker/direct"
)

// Config is what an agent is made of. Link and Build are required.
type Config struct {
	Name       string // for people; "" = the host's name
	Connection string // name of the NATS connection, whose end is this worker's end
	Numerics   string // numerics id of the device
	Version    string // of the binary
	Address    string // host:port of the direct listener; "" = none
	Threads    int
	Labels     []string      // "key=value", such as "gpu=h200": what runs may ask for
	Cache      string        // folder for files that come from the coordinator; "" = under the user's cache folder
	Grace      time.Duration // how long Drain waits for the round in flight; default 5 s
	OneRun     bool          // Run returns when the run is over; else the agent waits for the next run

	Link   Link
	Direct *direct.Node // answers other workers' questions at Address; nil = they come over the Link only
	Hub    *Hub         // the other agents of this process; nil = none
	// Build makes the trainer of a run with its initial parameters.
	Build func(ctx context.Context, run Run) (Trainer, error)
	// Load reads the state in a checkpoint folder (wire.Round.Resume).
	Load func(ctx context.Context, run Run, path string) (trainer.State, error)
	// Write writes a checkpoint of state, whose parameters have the digest, and returns its folder and the digest of its
	// manifest. It runs beside the steps, on a copy.
	Write func(ctx context.Context, run Run, state trainer.State, digest string) (path, manifest string, err error)
	// Score turns the embeddings of a suite's texts, rows [header.Slots, width], into metrics.
	Score func(ctx context.Context, run Run, suite int, header data.Header, rows []float32, width int) (map[string]float64, error)

	Log *slog.Logger // nil = none
}

// Run is a run as the injected functions see it.
type Run struct {
	wire.RunInfo
	Files *Files // files that only the coordinator has
}

// RefusedError says that the coordinator does not take this worker, in its words, and for which run.
type RefusedError struct {
	Reason string
	Run    *wire.RunInfo // nil = the coordinator did not say
}

// Error returns the coordinator's reason.
func (e *RefusedError) Error() string { return "coordinator refused this worker: " + e.Reason }

// Ends of a life, or of the work on one run.
var (
	errExpired = errors.New("worker: expired by the coordinator")
	errNewRun  = errors.New("worker: another run is assigned, or none")
	errOver    = errors.New("worker: run is over")
	errDrained = errors.New("worker: drained")
)

// Agent is one worker. Its Run is called once.
type Agent struct {
	Config

	jobs  []*job // of the runs worked on last, the newest first; kept from life to life
	drain chan struct{}
	once  sync.Once
	why   string // set before drain is closed
}

// New checks a configuration.
func New(config Config) (*Agent, error) {
	if config.Link == nil || config.Build == nil {
		return nil, errors.New("worker: Config needs Link and Build")
	}
	if config.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "worker"
		}
		config.Name = host
	}
	if config.Grace <= 0 {
		config.Grace = 5 * time.Second
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			dir = os.TempDir()
		}
		config.Cache = filepath.Join(dir, "counterpoint")
	}
	return &Agent{Config: config, drain: make(chan struct{})}, nil
}

// Drain ends Run in good order: the coordinator leases nothing more to this worker, the round in flight is finished,
// and Run returns nil within Config.Grace.
func (a *Agent) Drain(reason string) {
	a.once.Do(func() {
		a.why = reason
		close(a.drain)
	})
}

// Run works until ctx ends, the agent has drained, or, with OneRun, the run is over. It owns the goroutines that it
// starts; none outlives it. A *RefusedError, and an error of the trainer itself, end it too; a lost coordinator does not.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	var graceful sync.WaitGroup
	defer graceful.Wait()
	defer close(stop)
	graceful.Go(func() {
		select {
		case <-a.drain:
		case <-stop:
			return
		}
		select {
		case <-time.After(a.Grace):
			cancel(errDrained)
		case <-stop:
		}
	})
	defer func() {
		for _, j := range a.jobs {
			j.close()
		}
	}()
	for pause := time.Duration(0); ; {
		l, err := a.join(ctx)
		if err == nil {
			began := time.Now()
			err = l.run(ctx)
			if time.Since(began) > l.timeout {
				pause = 0
			}
		}
		switch {
		case errors.Is(err, errDrained), errors.Is(err, errOver), errors.Is(err, errExpired) && a.draining():
			return nil
		case errors.Is(err, errExpired):
			a.Log.Info("joining again", "reason", err)
		default:
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			if errors.Is(err, errDrained) {
				return nil
			}
			return err
		}
		pause = min(2*pause+10*time.Millisecond, time.Second)
	}
}

// join says hello until a coordinator answers.
func (a *Agent) join(ctx context.Context) (*life, error) {
	hello := &wire.Hello{
		Name: a.Name, Connection: a.Connection, ProtocolMin: wire.ProtocolMin, ProtocolMax: wire.ProtocolMax,
		Numerics: a.Numerics, Threads: a.Threads, Version: a.Version, Address: a.Address, Worker: freshID(a.Name),
		Labels: a.Labels,
	}
	began, told := time.Now(), false
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		hctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		welcome, err := a.Link.Hello(hctx, hello)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			if !told && time.Since(began) > time.Second {
				told = true
				a.Log.Warn("no coordinator answers; trying on", "err", err)
			}
		case welcome.Refused != "":
			return nil, &RefusedError{welcome.Refused, welcome.Run}
		default:
			a.Log.Info("joined", "worker", hello.Worker, "failure_timeout", welcome.FailureTimeout)
			return newLife(a, hello.Worker, welcome), nil
		}
		select {
		case <-a.drain:
			return nil, errDrained // nothing is held without a session
		default:
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// parked is how many runs a worker keeps something of besides the one that it works on.
const parked = 1

// take returns what the worker has of a run, which it begins to work on. Only the driver calls it.
func (a *Agent) take(info wire.RunInfo, timeout time.Duration) *job {
	i := slices.IndexFunc(a.jobs, func(j *job) bool { return j.run.ID == info.ID && j.run.Identity == info.Identity })
	var j *job
	if i >= 0 {
		j = a.jobs[i]
		a.jobs = slices.Delete(a.jobs, i, i+1)
		j.run.RunInfo = info
	} else {
		j = newJob(a, info, timeout)
	}
	a.jobs = slices.Insert(a.jobs, 0, j)
	for n := len(a.jobs); n > 1+parked; n-- {
		a.jobs[n-1].close()
		a.jobs = a.jobs[:n-1]
	}
	for _, other := range a.jobs[1:] {
		if other.trainer != nil { // its life ended before it could
			other.park()
		}
	}
	return j
}

// freshID returns a worker id that no other process life has: the name as far as it can be part of a subject, and
// 48 random bits.
func freshID(name string) string {
	clean := strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '-'
	}, name)
	var b [6]byte
	rand.Read(b[:]) // never fails
	return fmt.Sprintf("%.48s-%s", clean, hex.EncodeToString(b[:]))
}

// sleep waits for d, or returns the cause of ctx's end.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
