package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/api"
)

func runsCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "All runs of a fleet: state, priority, steps, workers",
		Long: `The runs that a fleet has, in the order of their submission; any coordinator answers. A run that is queued
waits for workers that match it: those of a higher priority come first, then those that were submitted earlier.`,
		Example: `  counterpoint runs
  counterpoint runs --server https://a:8300,https://b:8300 --tls ca.pem --token @token
  counterpoint runs --json | jq -r '.runs[] | select(.state == "failed") | .id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := fetch[api.RunList](cmd, &r, func(ctx context.Context, c *api.Client) ([]byte, error) { return c.Runs(ctx) })
			if list == nil || err != nil {
				return err
			}
			return writeRuns(cmd.OutOrStdout(), list.Runs)
		},
	}
	r.flags(cmd)
	return cmd
}

// writeRuns prints runs as a table.
func writeRuns(w io.Writer, runs []coordinator.RunSummary) error {
	if len(runs) == 0 {
		_, err := fmt.Fprintln(w, "no runs yet: counterpoint submit run.yaml hands one in")
		return err
	}
	if err := runTable(w, runs).write(w); err != nil {
		return err
	}
	for i := range runs { // sentences do not fit a column
		if r := &runs[i]; r.Reason != "" {
			if _, err := fmt.Fprintf(w, "%s is %s: %s\n", r.ID, r.State, r.Reason); err != nil {
				return err
			}
		}
	}
	return nil
}

func runTable(w io.Writer, runs []coordinator.RunSummary) *table {
	t := newTable(w, column{name: "RUN", least: 18}, column{name: "STATE"}, column{name: "PRIORITY", right: true}, column{name: "STEP", right: true},
		column{name: "LOSS", right: true}, column{name: "WORKERS", right: true}, column{name: "SUBMITTED"})
	for i := range runs {
		r := &runs[i]
		loss, workers := "", ""
		if r.Step > 0 {
			loss = fmt.Sprintf("%.4f", r.Loss)
		}
		if r.Workers > 0 {
			workers = fmt.Sprint(r.Workers)
		}
		t.row(r.ID, r.State, fmt.Sprint(r.Priority), fmt.Sprintf("%d/%d", r.Step, r.Steps), loss, workers, ago(r.Submitted))
	}
	return t
}

// ago says how long ago something was.
func ago(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	switch d := time.Since(at); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", max(0, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}
