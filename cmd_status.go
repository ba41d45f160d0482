package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/api"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

func statusCommand() *cobra.Command {
	var r remote
	var join string
	cmd := &cobra.Command{
		Use:   "status [RUN]",
		Short: "What a fleet is doing: coordinators, runs, workers; or one run: leases, checkpoints, recoveries",
		Long: `Without RUN, the whole fleet; with one, that run. RUN is the run's id, its name, or the beginning of either. A "train"
with cluster.listen has no HTTP: --join asks it where workers join it.`,
		Example: `  counterpoint status
  counterpoint status debian-diffusion --server http://10.0.0.1:8300,http://10.0.0.2:8300
  counterpoint status --json | jq .workers
  counterpoint status --join nats://127.0.0.1:4222`,
		Args: optional("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			switch {
			case join != "":
				text, err := r.ask(cmd.Context(), join, strings.Join(args, ""))
				if err != nil {
					return err
				}
				if r.json {
					_, err := fmt.Fprintf(out, "%s\n", text)
					return err
				}
				var s coordinator.Status
				if err := json.Unmarshal(text, &s); err != nil {
					return fmt.Errorf("status: %w", err)
				}
				return writeStatus(out, &s)
			case len(args) == 0:
				o, err := fetch[coordinator.Overview](cmd, &r, func(ctx context.Context, c *api.Client) ([]byte, error) { return c.Cluster(ctx) })
				if o == nil || err != nil {
					return err
				}
				return writeOverview(out, o)
			}
			s, err := fetch[coordinator.Status](cmd, &r, func(ctx context.Context, c *api.Client) ([]byte, error) { return c.Run(ctx, args[0]) })
			if s == nil || err != nil {
				return err
			}
			return writeStatus(out, s)
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVar(&join, "join", "", "ask over NATS, at the address where workers join, instead of --server")
	return cmd
}

// ask returns a run's Status as JSON over NATS.
func (r *remote) ask(ctx context.Context, url, run string) ([]byte, error) {
	source, err := r.source()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := bus.Connect(ctx, bus.Options{URL: url, TLS: source, Name: connectionName("status"), FailureTimeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("no coordinator at %s: %w", url, err)
	}
	defer conn.Close()
	reply, err := bus.Request[wire.StatusReply](ctx, conn, wire.StatusSubject, &wire.StatusRequest{Run: run})
	if errors.Is(err, bus.ErrNoResponder) {
		return nil, fmt.Errorf("a NATS server, but no leading coordinator, at %s", url)
	}
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", url, err)
	}
	if reply.Err != "" {
		return nil, errors.New(reply.Err)
	}
	return reply.JSON, nil
}

// writeOverview prints the whole fleet.
func writeOverview(w io.Writer, o *coordinator.Overview) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	leader := o.Name
	if leader == "" {
		leader = "coordinator"
	}
	fmt.Fprintf(t, "leader\t%s, version %s\n", leader, o.Version)
	if o.URL != "" {
		fmt.Fprintf(t, "workers join\t%s\n", o.URL)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := writeCoordinators(w, o.Coordinators); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := writeRuns(w, o.Runs); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return writeWorkers(w, o.Workers, o.Quarantined, o.URL, true)
}

// writeCoordinators shows a group; of one that is alone there is nothing to say.
func writeCoordinators(w io.Writer, all []coordinator.CoordinatorStatus) error {
	if len(all) < 2 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, column{name: "COORDINATOR", least: 11}, column{name: "ROLE"}, column{name: "VOTES"}, column{name: "APPLIED", right: true},
		column{name: "COMMITTED", right: true}, column{name: "LAST HEARD", right: true}, column{name: "CANNOT LEAD", least: 12})
	for _, c := range all {
		heard, votes := "never", "no"
		if c.Silent >= 0 {
			heard = fmt.Sprintf("%.1f s ago", c.Silent)
		}
		if c.Voter {
			votes = "yes"
		}
		t.row(c.Name, c.Role, votes, fmt.Sprint(c.Applied), fmt.Sprint(c.Commit), heard, c.Unfit)
	}
	return t.write(w)
}

// writeStatus prints one run.
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
	if s.Priority != 0 {
		fmt.Fprintf(t, "priority\t%d\n", s.Priority)
	}
	fmt.Fprintf(t, "step\t%d of %d", s.Step, s.Steps)
	if s.Committed > s.Step {
		fmt.Fprintf(t, " (executing again up to %d)", s.Committed)
	}
	if s.Step > 0 {
		fmt.Fprintf(t, "\nloss\t%.4f", s.Loss)
	}
	fmt.Fprintln(t)
	for _, f := range [][2]string{{"parameters", fmt.Sprintf("%.16s", s.Parameters)}, {"numerics", s.Numerics}, {"since", s.Started.Local().Format(time.DateTime)}} {
		if f[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", f[0], f[1])
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(s.Refused)) {
		fmt.Fprintf(t, "refused\t%s: %d\n", reason, s.Refused[reason])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := writeCoordinators(w, s.Coordinators); err != nil {
		return err
	}
	fmt.Fprintln(w)
	workers := slices.Clone(s.Workers)
	for i := range workers { // all are of this run
		workers[i].Run = s.Run
	}
	if err := writeWorkers(w, workers, s.Quarantined, s.URL, false); err != nil {
		return err
	}
	return errors.Join(writePaths(w, s.Workers), writeCheckpoints(w, s.Checkpoints), writeEvaluations(w, s.Evaluations), writeRecoveries(w, s.Recoveries))
}

func writeCheckpoints(w io.Writer, all []coordinator.CheckpointStatus) error {
	if len(all) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, column{name: "CHECKPOINT AT STEP", right: true}, column{name: "WRITTEN"}, column{name: "FOLDER", least: 20}, column{name: "NOTE"})
	for _, c := range all {
		note := ""
		if c.Best {
			note = "best"
		}
		t.row(fmt.Sprint(c.Step), ago(c.At), c.Path, note)
	}
	return t.write(w)
}

func writeEvaluations(w io.Writer, all []coordinator.EvaluationStatus) error {
	if len(all) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, column{name: "EVALUATION AT STEP", right: true}, column{name: "SUITE", least: 12}, column{name: "SCORE", right: true})
	for _, e := range all {
		t.row(fmt.Sprint(e.Step), e.Suite, fmt.Sprintf("%.4f", e.Metrics[evaluate.MainScore]))
	}
	return t.write(w)
}

// writeRecoveries prints what became of lost workers: when the loss was known, the shards leased again, the next commit.
func writeRecoveries(w io.Writer, all []coordinator.Recovery) error {
	if len(all) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, column{name: "LOST"}, column{name: "WORKER", least: 12}, column{name: "DETECTED", right: true}, column{name: "RE-LEASED", right: true},
		column{name: "COMMITTED", right: true}, column{name: "SHARDS", right: true}, column{name: "WHY", least: 12})
	since := func(from, to time.Time) string {
		if from.IsZero() || to.IsZero() {
			return ""
		}
		return fmt.Sprintf("+%d ms", to.Sub(from).Milliseconds())
	}
	for i := range all {
		r := &all[i]
		t.row(r.Heard.Local().Format(time.TimeOnly), r.Worker, since(r.Heard, r.Detected), since(r.Heard, r.Released), since(r.Heard, r.Commit), fmt.Sprint(r.Shards), r.Reason)
	}
	return t.write(w)
}
