package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/api"
)

func workersCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:     "workers",
		Short:   "All workers of a fleet: run, state, shards, speed, labels",
		Example: "  counterpoint workers\n  counterpoint workers --json | jq -r '.workers[] | select(.run == null) | .name'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := fetch[api.WorkerList](cmd, &r, func(ctx context.Context, c *api.Client) ([]byte, error) { return c.Workers(ctx) })
			if list == nil || err != nil {
				return err
			}
			return writeWorkers(cmd.OutOrStdout(), list.Workers, list.Quarantined, "", true)
		},
	}
	r.flags(cmd)
	return cmd
}

// writeWorkers prints workers as a table; url is where more may join. runs says whether each has a run of its own.
func writeWorkers(w io.Writer, workers []coordinator.WorkerStatus, quarantined []string, url string, runs bool) error {
	if len(workers) == 0 {
		if url == "" {
			url = "nats://HOST:4222"
		}
		if _, err := fmt.Fprintln(w, "no workers: counterpoint worker --join "+url+" adds one"); err != nil {
			return err
		}
	} else {
		t := newTable(w, column{name: "WORKER", least: 14}, column{name: "RUN", least: 14}, column{name: "STATE"}, column{name: "AT STEP", right: true},
			column{name: "SHARDS", right: true}, column{name: "TOKENS/S", right: true}, column{name: "LAST HEARD", right: true}, column{name: "LABELS", least: 10}, column{name: "NUMERICS", least: 10})
		for i := range workers {
			m := &workers[i]
			run, step, shards, speed := "", "", "", ""
			if runs {
				run = m.Run
			}
			if m.State >= 0 {
				step = fmt.Sprint(m.State)
			}
			if m.Run != "" {
				shards = fmt.Sprint(m.Shards)
			}
			if m.TokensPS > 0 {
				speed = grouped(int64(m.TokensPS))
			}
			t.row(m.Worker, run, workerState(m), step, shards, speed, fmt.Sprintf("%.1f s ago", m.Silent), strings.Join(m.Labels, ","), m.Numerics)
		}
		if err := t.write(w); err != nil {
			return err
		}
	}
	if len(quarantined) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "quarantined, since their parameters differed: %s\n", strings.Join(quarantined, ", "))
	return err
}

// workerState says in a word what a worker is doing.
func workerState(m *coordinator.WorkerStatus) string {
	switch {
	case m.Leaving != "":
		return "draining"
	case m.Run == "":
		return "idle"
	case m.Ready:
		return "ready"
	case m.Peer != "":
		return "copying"
	}
	return "loading"
}
