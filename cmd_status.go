package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

func statusCommand() *cobra.Command {
	var join string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status --join nats://HOST:PORT",
		Short:   "What a running coordinator is doing: run, workers, leases, checkpoints, evaluations",
		Example: "  counterpoint status --join nats://127.0.0.1:4222\n  counterpoint status --json | jq .workers",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := askStatus(cmd.Context(), join)
			if err != nil {
				return err
			}
			if asJSON {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", text)
				return err
			}
			var s coordinator.Status
			if err := json.Unmarshal(text, &s); err != nil {
				return fmt.Errorf("status: %w", err)
			}
			return writeStatus(cmd.OutOrStdout(), &s)
		},
	}
	cmd.Flags().StringVar(&join, "join", "nats://127.0.0.1:4222", "address of a coordinator")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// askStatus returns the coordinator's Status as JSON.
func askStatus(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := bus.Connect(ctx, bus.Options{URL: url, Name: connectionName("status"), FailureTimeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("no coordinator at %s: %w", url, err)
	}
	defer conn.Close()
	reply, err := bus.Request[wire.StatusReply](ctx, conn, wire.StatusSubject, &wire.StatusRequest{})
	if errors.Is(err, bus.ErrNoResponder) {
		return nil, fmt.Errorf("a NATS server, but no leading coordinator, at %s", url)
	}
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", url, err)
	}
	return reply.JSON, nil
}

func writeStatus(w io.Writer, s *coordinator.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "run\t%s (%s)\n", s.Name, s.Run)
	state := s.State
	if s.Doing != "" {
		state += ", " + s.Doing
	}
	if s.Reason != "" {
		state += ": " + s.Reason
	}
	fmt.Fprintf(t, "state\t%s\n", state)
	fmt.Fprintf(t, "step\t%d of %d", s.Step, s.Steps)
	if s.Committed > s.Step {
		fmt.Fprintf(t, " (executing again up to %d)", s.Committed)
	}
	fmt.Fprintf(t, "\nloss\t%.4f\nparameters\t%.16s\nnumerics\t%s\nsince\t%s\n", s.Loss, s.Parameters, s.Numerics, s.Started.Local().Format(time.DateTime))
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "WORKER\tSTATE\tAT STEP\tSHARDS\tTOKENS/S\tLAST HEARD")
	for _, m := range s.Workers {
		state := "ready"
		switch {
		case m.Leaving != "":
			state = "draining"
		case !m.Ready:
			state = "copying state"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%.0f\t%.1f s ago\n", m.Worker, state, m.State, m.Shards, m.TokensPS, m.Silent)
	}
	if len(s.Workers) == 0 {
		fmt.Fprintln(t, "none: start some with counterpoint worker --join "+s.URL)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i, c := range s.Checkpoints {
		if i == 0 {
			fmt.Fprintln(w, "\nCHECKPOINTS")
		}
		best := ""
		if c.Best {
			best = "  best"
		}
		fmt.Fprintf(w, "step %d  %s%s\n", c.Step, c.Path, best)
	}
	for i, e := range s.Evaluations {
		if i == 0 {
			fmt.Fprintln(w, "\nEVALUATIONS")
		}
		fmt.Fprintf(w, "step %d  %s  %.4f\n", e.Step, e.Suite, e.Metrics[evaluate.MainScore])
	}
	return nil
}
