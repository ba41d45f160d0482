package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

func logsCommand() *cobra.Command {
	var join string
	var follow bool
	var n int
	cmd := &cobra.Command{
		Use:     "logs --join nats://HOST:PORT",
		Short:   "The newest log lines of the whole fleet",
		Example: "  counterpoint logs -f\n  counterpoint logs -n 500 --join nats://10.0.0.1:4222",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			conn, err := bus.Connect(ctx, bus.Options{URL: join, Name: connectionName("logs"), FailureTimeout: time.Second})
			if err != nil {
				return fmt.Errorf("no coordinator at %s: %w", join, err)
			}
			defer conn.Close()
			out := cmd.OutOrStdout()
			if follow { // before the request, so that no line falls between the two
				lines := make(chan *wire.Log, 1024)
				if _, err := bus.Subscribe(conn, wire.LogSubject, func(l *wire.Log) { lines <- l }); err != nil {
					return err
				}
				if err := newestLogs(ctx, conn, out, n); err != nil {
					return err
				}
				ctx, drain := interrupts(cmd.Context(), io.Discard, "", "")
				for {
					select {
					case l := <-lines:
						writeLog(out, l)
					case <-drain:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}
			return newestLogs(ctx, conn, out, n)
		},
	}
	f := cmd.Flags()
	f.StringVar(&join, "join", "nats://127.0.0.1:4222", "address of a coordinator")
	f.BoolVarP(&follow, "follow", "f", false, "go on with new lines until Ctrl-C")
	f.IntVarP(&n, "lines", "n", 50, "how many of the newest lines; 0 = all that are kept")
	return cmd
}

func newestLogs(ctx context.Context, conn *bus.Conn, out io.Writer, n int) error {
	reply, err := bus.Request[wire.LogsReply](ctx, conn, wire.LogsSubject, &wire.LogsRequest{Lines: n})
	if errors.Is(err, bus.ErrNoResponder) {
		return errors.New("a NATS server, but no leading coordinator, answers there")
	}
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	for i := range reply.Lines {
		writeLog(out, &reply.Lines[i])
	}
	return nil
}

func writeLog(out io.Writer, l *wire.Log) {
	fmt.Fprintf(out, "%s %-5s %-24s %s\n", l.Time.Local().Format("15:04:05.000"), l.Level, l.Source, l.Text)
}
