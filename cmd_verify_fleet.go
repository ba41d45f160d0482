package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

func verifyFleetCommand() *cobra.Command {
	var r remote
	var join string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "fleet [RUN]",
		Short: "Compare the digests of the live workers' parameters and frozen weights",
		Long: `Every worker's heartbeat tells the digest of its parameters and of how many steps they are. Each is compared with what the log
has committed for that step, and the frozen weights' digests with each other. Workers without parameters, or at a step that is
not committed yet, are asked again until --wait is over. The exit code is 1 if one is the odd one out, which is named.`,
		Example: "  counterpoint verify fleet\n  counterpoint verify fleet debian-diffusion --server http://10.0.0.1:8300\n  counterpoint verify fleet --join nats://127.0.0.1:4222",
		Args:    optional("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := compareFleet(cmd.Context(), wait, func(ctx context.Context) (*coordinator.Status, error) {
				text, err := r.status(ctx, join, strings.Join(args, ""))
				if err != nil {
					return nil, err
				}
				s := &coordinator.Status{}
				if err := json.Unmarshal(text, s); err != nil {
					return nil, fmt.Errorf("status: %w", err)
				}
				return s, nil
			})
			if err != nil {
				return err
			}
			if r.json {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(f)
			} else {
				err = f.print(cmd.OutOrStdout())
			}
			if err == nil && len(f.Odd) > 0 {
				err = exitError{1}
			}
			return err
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVar(&join, "join", "", "ask over NATS, at the address where workers join, instead of --server")
	cmd.Flags().DurationVar(&wait, "wait", 5*time.Second, "how long to wait until all workers can be compared")
	return cmd
}

// fleetResult is what the workers of a fleet hold.
type fleetResult struct {
	Run     string         `json:"run"`
	State   string         `json:"state"`
	Step    int64          `json:"step"`
	Workers []fleetMember  `json:"workers"`
	Odd     []string       `json:"odd"`    // workers that differ
	Absent  []string       `json:"absent"` // workers that could not be compared
	Frozen  map[string]int `json:"frozen"` // workers by digest of the frozen weights
}

// fleetMember is one worker, as it was compared.
type fleetMember struct {
	Worker     string `json:"worker"`
	Step       int64  `json:"step"`
	Parameters string `json:"parameters"`
	Committed  string `json:"committed"`
	Frozen     string `json:"frozen,omitempty"`
	Checked    int64  `json:"checked"`
	Verdict    string `json:"verdict"`
}

// compareFleet asks until every worker was seen at a committed step, or the time is over.
func compareFleet(ctx context.Context, wait time.Duration, ask func(context.Context) (*coordinator.Status, error)) (*fleetResult, error) {
	end := time.Now().Add(wait)
	seen := map[string]fleetMember{}
	for {
		s, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		f := &fleetResult{Run: s.Run, State: s.State, Step: s.Step, Frozen: map[string]int{}, Odd: []string{}, Absent: []string{}}
		for _, w := range s.Workers {
			if w.State >= 0 && w.Parameters != "" && w.Committed != "" {
				seen[w.Worker] = fleetMember{w.Worker, w.State, w.Parameters, w.Committed, w.Frozen, w.Checked, ""}
			}
			m, ok := seen[w.Worker]
			if !ok {
				m = fleetMember{Worker: w.Worker, Step: w.State, Parameters: w.Parameters, Frozen: w.Frozen, Checked: w.Checked}
				f.Absent = append(f.Absent, w.Worker)
			}
			f.Workers = append(f.Workers, m)
		}
		if len(f.Absent) == 0 && len(f.Workers) > 0 || !time.Now().Before(end) {
			f.judge(s)
			return f, nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// judge names who differs. Frozen weights are compared among workers of one numerics id: others keep them in other forms.
func (f *fleetResult) judge(s *coordinator.Status) {
	numerics := map[string]string{}
	for _, w := range s.Workers {
		numerics[w.Worker] = w.Numerics
	}
	counts := map[string]map[string]int{}
	for _, m := range f.Workers {
		if m.Frozen == "" {
			continue
		}
		kind := numerics[m.Worker]
		if counts[kind] == nil {
			counts[kind] = map[string]int{}
		}
		counts[kind][m.Frozen]++
		f.Frozen[m.Frozen]++
	}
	for i := range f.Workers {
		m := &f.Workers[i]
		most := 0
		for _, n := range counts[numerics[m.Worker]] {
			most = max(most, n)
		}
		switch {
		case slices.Contains(f.Absent, m.Worker):
			m.Verdict = "not compared"
		case m.Parameters != m.Committed:
			m.Verdict = "ODD: the committed parameters are " + m.Committed[:min(16, len(m.Committed))]
		case m.Frozen != "" && len(counts[numerics[m.Worker]]) > 1 && (most == 1 || counts[numerics[m.Worker]][m.Frozen] < most):
			m.Verdict = "ODD: other frozen weights than the others"
		default:
			m.Verdict = "ok"
		}
		if strings.HasPrefix(m.Verdict, "ODD") {
			f.Odd = append(f.Odd, m.Worker)
		}
	}
}

func (f *fleetResult) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "run %s, %s, at step %d\n\n", f.Run, f.State, f.Step)
	fmt.Fprintln(t, "WORKER\tSTEP\tPARAMETERS\tFROZEN WEIGHTS\tHASHED AGAIN AT\tVERDICT")
	for _, m := range f.Workers {
		frozen, checked := "none", "-"
		if m.Frozen != "" {
			frozen, checked = fmt.Sprintf("%.16s", m.Frozen), fmt.Sprint("step ", m.Checked)
		}
		fmt.Fprintf(t, "%s\t%d\t%.16s\t%s\t%s\t%s\n", m.Worker, m.Step, m.Parameters, frozen, checked, m.Verdict)
	}
	switch {
	case len(f.Workers) == 0:
		fmt.Fprintln(t, "\nno workers")
	case len(f.Odd) > 0:
		fmt.Fprintf(t, "\nFAILED: %s\n", strings.Join(f.Odd, ", "))
	case len(f.Absent) > 0:
		fmt.Fprintf(t, "\n%s could not be compared: no parameters yet, or of a step that is not committed\n", strings.Join(f.Absent, ", "))
	default:
		fmt.Fprintf(t, "\nall %d workers hold what the log has committed\n", len(f.Workers))
	}
	return t.Flush()
}
