package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
	"github.com/counterpoint-ml/counterpoint/worker"
)

func workerCommand() *cobra.Command {
	var join, name, level, listen, files, token, key string
	var threads, count int
	var labels []string
	var timeout, grace time.Duration
	cmd := &cobra.Command{
		Use:   "worker --join nats://HOST:PORT",
		Short: "Add a worker to a running coordinator, at any time; it needs neither the data nor the YAML",
		Long: `A worker takes shards from the coordinator that it joins, copies the parameters from a peer if the run
is under way, and may leave at any time. SIGTERM or Ctrl-C drains it: the round in flight is finished and
nothing new taken; a second one ends it at once. Neither shows in the result.`,
		Example: "  counterpoint worker --join nats://127.0.0.1:4222\n  counterpoint worker --join nats://10.0.0.1:4222 --name gpu7 --threads 8\n" +
			"  counterpoint worker --join tls://10.0.0.1:4222 --tls ca.pem,workers.pem,workers.key --join-token join.token",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if join == "" {
				return errors.New("--join is needed: the coordinator prints its address, such as nats://127.0.0.1:4222")
			}
			log, err := logger(cmd.ErrOrStderr(), level)
			if err != nil {
				return err
			}
			if err := checkLabels(labels); err != nil {
				return err
			}
			if count < 1 || threads < 0 {
				return fmt.Errorf("--capacity %d --threads %d: at least one worker, and 0 threads (the cores shared) or more are needed", count, threads)
			}
			if name == "" {
				if name, err = os.Hostname(); err != nil {
					name = "worker"
				}
			}
			if threads == 0 {
				threads = max(1, runtime.GOMAXPROCS(0)/count)
			}
			const ended = "ended at once"
			crew := newCrew(threads, keepBytes(count), log)
			crew.labels = labels
			o := bus.Options{URL: join, FailureTimeout: timeout}
			if o.TLS, o.Key, o.Token, err = workerIdentity(files, key, token, log); err != nil {
				return err
			}
			if crew.direct, crew.address, err = listenDirect(listen, join, timeout, o.TLS, log); err != nil {
				return err
			}
			if crew.direct != nil {
				defer crew.direct.Close()
			}
			ctx, drain := interrupts(cmd.Context(), cmd.ErrOrStderr(), "draining: the round in flight is finished; again to end at once", ended)
			err = crew.joinAs(ctx, drain, name, count, o, grace)
			if level := kernelsOf(err); level != "" {
				log.Info("starting again with the kernels that the run asks for", "kernels", level)
				err = useKernels(level)
			}
			return ending(ctx, cmd.ErrOrStderr(), ended, err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&join, "join", "", "address of a coordinator, nats://HOST:PORT; several separated by commas")
	f.StringVar(&listen, "direct-listen", "", "HOST:PORT where other workers connect to this one; default any port of the interface to the coordinator; off = over NATS only")
	f.StringVar(&files, "tls", os.Getenv("COUNTERPOINT_TLS"), "CA,CERTIFICATE,KEY, or a folder with ca.pem, tls.crt and tls.key; needed where the coordinator has certificates (COUNTERPOINT_TLS)")
	f.StringVar(&token, "join-token", "", "file with a join token (counterpoint certs token), needed until this worker's key is admitted")
	f.StringVar(&key, "key", "", "file of this worker's own key, made at the first start; default in the user's cache folder")
	f.StringVar(&name, "name", "", "name for people; default the host's name")
	f.StringVar(&level, "log", "info", "smallest log level: debug, info, warn, error")
	f.IntVar(&threads, "threads", 0, "threads of a worker; default the machine's cores shared among --capacity")
	f.IntVar(&count, "capacity", 1, "workers in this process, which may work on different runs; of one run they share the frozen weights")
	f.IntVar(&count, "count", 1, "the same as --capacity")
	f.Lookup("count").Hidden = true
	f.StringSliceVar(&labels, "labels", nil, "what runs may ask for with cluster.labels, KEY=VALUE, such as gpu=h200; several separated by commas")
	f.DurationVar(&timeout, "failure-timeout", time.Second, "the coordinator's cluster.failure_timeout")
	f.DurationVar(&grace, "grace", 5*time.Second, "how long a drain waits for the round in flight")
	return cmd
}

// workerIdentity opens what a worker shows of itself where there are certificates; without --tls all are nil.
func workerIdentity(files, key, token string, log *slog.Logger) (source *credential.Source, own *bus.Key, join credential.Secret, err error) {
	config, err := credential.ParseConfig(files)
	if err != nil || config == nil {
		if err == nil && token != "" {
			err = errors.New("--join-token needs --tls: it is not shown without a certificate of the coordinator")
		}
		return nil, nil, join, err
	}
	if source, err = credential.Open(*config, &credential.Refusals{Log: log}, log); err != nil {
		return nil, nil, join, fmt.Errorf("--tls: %w", err)
	}
	if m := source.Member(); m.Role != credential.Worker {
		return nil, nil, join, fmt.Errorf("--tls: %s is of role %s; a worker's is needed: counterpoint certs issue --role worker", config.Certificate, m.Role)
	}
	if key == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, nil, join, fmt.Errorf("no folder for the worker's key; --key names a file: %w", err)
		}
		key = filepath.Join(cache, "counterpoint", "worker.nk")
	}
	if own, err = bus.LoadKey(key); err != nil {
		return nil, nil, join, err
	}
	join, err = credential.ReadToken(token)
	return source, own, join, err
}

// checkLabels refuses labels that no run could ask for.
func checkLabels(labels []string) error {
	for _, l := range labels {
		if !configs.Label.MatchString(l) {
			return fmt.Errorf("--labels %q: KEY=VALUE of letters, digits, `.`, `_`, `-` and `/` is allowed, such as gpu=h200", l)
		}
	}
	return nil
}

// joinAs runs count agents against a coordinator until the context ends or drain is closed.
func (c *crew) joinAs(ctx context.Context, drain <-chan struct{}, name string, count int, o bus.Options, grace time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range count {
		self := name
		if count > 1 {
			self = fmt.Sprintf("%s-%d", name, i)
		}
		told := time.AfterFunc(time.Second, func() { c.log.Warn("no coordinator answers; trying on", "worker", self, "join", o.URL) })
		m, err := c.member(closed(ctx, drain), self, o, func(config *worker.Config) { config.Grace = grace })
		told.Stop()
		select {
		case <-drain:
			if err != nil {
				return g.Wait() // asked to leave before there was anything to join
			}
		default:
		}
		if err != nil {
			return fmt.Errorf("join %s: %w", o.URL, err)
		}
		g.Go(func() error {
			defer context.AfterFunc(closed(ctx, drain), func() { m.agent.Drain("asked to") })()
			return m.run(ctx)
		})
	}
	return g.Wait()
}

// kernelsOf returns the kernels that a run asks for, if it refused a worker that uses others; "" = that is not why.
func kernelsOf(err error) string {
	var refused *worker.RefusedError
	if !errors.As(err, &refused) || refused.Run == nil {
		return ""
	}
	spec, err := decodeSpec(refused.Run.Spec)
	if err != nil || spec.Kernels == isa.Active().String() {
		return ""
	}
	return spec.Kernels
}

// closed returns a context that ends when ch is closed.
func closed(ctx context.Context, ch <-chan struct{}) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-ch:
		case <-ctx.Done():
		}
	}()
	return ctx
}

// interrupted is the exit code after a second SIGINT or SIGTERM.
const interrupted = 130

// stopping is said after the first one.
const stopping = "stopping: the step in flight is finished and a checkpoint written; again to end at once (still resumable)"

// interrupts turns the first SIGINT or SIGTERM into drain, and says first, and the second into the end of the context.
// A process that has not ended a second after that says second and ends.
func interrupts(ctx context.Context, stderr io.Writer, first, second string) (context.Context, <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	drain := make(chan struct{})
	// A launcher may pass on what the terminal has sent already: that is one Ctrl-C, not two.
	const twice = 100 * time.Millisecond
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer signal.Stop(signals)
		select {
		case <-signals:
			fmt.Fprintln(stderr, first)
			close(drain)
		case <-ctx.Done():
			return
		}
		for until := time.After(twice); until != nil; {
			select {
			case <-signals:
			case <-until:
				until = nil
			}
		}
		select {
		case <-signals:
			cancel()
			time.Sleep(time.Second)
			fmt.Fprintln(stderr, second)
			os.Exit(interrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, drain
}
