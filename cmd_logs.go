package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/api"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

func logsCommand() *cobra.Command {
	var r remote
	var join string
	var follow bool
	var n int
	cmd := &cobra.Command{
		Use:   "logs [RUN]",
		Short: "The newest log lines of the whole fleet, or of one run",
		Long: `Lines of coordinators and workers. Of one run: those about it, and those about no run in particular. RUN is the run's id, its
name, or the beginning of either. -f goes on with new ones, over coordinators that are lost, until Ctrl-C.`,
		Example: `  counterpoint logs -f
  counterpoint logs debian-diffusion -n 500
  counterpoint logs --join nats://10.0.0.1:4222        a "train" with cluster.listen, which has no HTTP`,
		Args: optional("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			out := cmd.OutOrStdout()
			write := func(l *api.LogLine) error {
				if r.json {
					return json.NewEncoder(out).Encode(l)
				}
				return writeLog(out, l, len(args) == 0)
			}
			var err error
			if join != "" {
				if len(args) > 0 {
					return errors.New("--join shows the whole fleet; RUN needs --server")
				}
				err = r.joinLogs(ctx, join, n, follow, write)
			} else {
				var c *api.Client
				if c, err = r.client(); err != nil {
					return err
				}
				run := ""
				if len(args) > 0 {
					run = args[0]
				}
				err = c.Logs(ctx, run, n, follow, write)
			}
			if ctx.Err() != nil && cmd.Context().Err() == nil {
				return nil // Ctrl-C
			}
			return err
		},
	}
	r.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&join, "join", "", "listen on NATS, at the address where workers join, instead of --server")
	f.BoolVarP(&follow, "follow", "f", false, "go on with new lines until Ctrl-C")
	f.IntVarP(&n, "lines", "n", 50, "how many of the newest lines; 0 = all that are kept")
	return cmd
}

// joinLogs is Client.Logs over NATS.
func (r *remote) joinLogs(ctx context.Context, url string, n int, follow bool, write func(*api.LogLine) error) error {
	source, err := r.source()
	if err != nil {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := bus.Connect(soon, bus.Options{URL: url, TLS: source, Name: connectionName("logs"), FailureTimeout: time.Second})
	if err != nil {
		return fmt.Errorf("no coordinator at %s: %w", url, err)
	}
	defer conn.Close()
	line := func(l *wire.Log) error {
		return write(&api.LogLine{Time: l.Time, Run: l.Run, Source: l.Source, Level: l.Level, Text: l.Text})
	}
	lines := make(chan *wire.Log, 1024)
	if follow { // before the request, so that no line falls between the two
		if _, err := bus.Subscribe(conn, wire.LogSubject, func(l *wire.Log) {
			select {
			case lines <- l:
			case <-ctx.Done():
			}
		}); err != nil {
			return err
		}
	}
	reply, err := bus.Request[wire.LogsReply](soon, conn, wire.LogsSubject, &wire.LogsRequest{Lines: n})
	if errors.Is(err, bus.ErrNoResponder) {
		return errors.New("a NATS server, but no leading coordinator, answers there")
	}
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	for i := range reply.Lines {
		if err := line(&reply.Lines[i]); err != nil {
			return err
		}
	}
	for follow {
		select {
		case l := <-lines:
			if err := line(l); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// writeLog prints a line; runs says whether it is to name its run.
func writeLog(out io.Writer, l *api.LogLine, runs bool) error {
	run := ""
	if runs && l.Run != "" {
		run = "  run=" + l.Run
	}
	_, err := fmt.Fprintf(out, "%s %-5s %-20s %s%s\n", l.Time.Local().Format("15:04:05.000"), l.Level, l.Source, l.Text, run)
	return err
}
