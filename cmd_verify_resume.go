package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/ledger"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/worker"
)

func verifyResumeCommand() *cobra.Command {
	var v resumeVerification
	cmd := &cobra.Command{
		Use:   "resume RUN STEP",
		Short: "Execute the step after a checkpoint again, and compare it with what the fleet committed",
		Long: `RUN is the folder of a run or of a coordinator, in use or not; its log is copied and not changed. The checkpoint of STEP is loaded, or
the newest one before it that is still kept, or the initial parameters, and one worker in this process executes the steps after
it up to STEP + 1. The digests of gradient and parameters must be those that the log has: bit for bit, whatever fleet it was.
The exit code is 1 at the first difference.`,
		Example: "  counterpoint verify resume runs/tiny-diffusion 100",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			step, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil || step < 0 {
				return fmt.Errorf("STEP: found %q; the number of a step is allowed, from 0", args[1])
			}
			v.out, v.step = cmd.OutOrStdout(), step
			return v.verify(cmd.Context(), args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&v.file, "config", "", "run file; default: the one that the folder keeps")
	f.StringArrayVar(&v.sets, "set", nil, "key=value over the run file, as the run was begun with")
	f.StringVar(&v.run, "run", "", "which run, where the log has several; default: the newest")
	f.IntVar(&v.threads, "threads", 0, "of the worker; 0 = all cores")
	f.BoolVar(&v.json, "json", false, "as JSON")
	return cmd
}

// alone is a trainer that needs no other.
type alone interface {
	worker.Trainer
	Solo(shards []*data.Shard, slots int) *trainer.Solo
	Free()
}

// resumeVerification is one call of verify resume.
type resumeVerification struct {
	file    string
	run     string
	sets    []string
	step    int64
	threads int
	json    bool
	out     io.Writer
}

// resumeResult is what came of it.
type resumeResult struct {
	Run        string         `json:"run"`
	From       int64          `json:"from"`       // steps applied to what was loaded
	Checkpoint string         `json:"checkpoint"` // "" = the initial parameters
	Skipped    []string       `json:"skipped,omitempty"`
	Steps      []executedStep `json:"steps"`
	OK         bool           `json:"ok"`
	Error      string         `json:"error,omitempty"`
}

// executedStep is a step that was executed again.
type executedStep struct {
	Step       int64   `json:"step"`
	Gradient   string  `json:"gradient"`
	Parameters string  `json:"parameters"`
	Loss       float64 `json:"loss"`
	OK         bool    `json:"ok"`
	Seconds    float64 `json:"seconds"`
}

func (v *resumeVerification) verify(ctx context.Context, dir string) (err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	run, p, err := v.committed(abs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if v.step >= run.Committed() {
		return fmt.Errorf("step %d of run %s is not committed: %d are, so STEP is from 0 to %d", v.step+1, run.Name, run.Committed(), max(0, run.Committed()-1))
	}
	if err := useKernels(kernelLevel(run.Numerics)); err != nil {
		return err
	}
	r, err := v.execute(ctx, p, run)
	if err != nil {
		return err
	}
	if v.json {
		e := json.NewEncoder(v.out)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return err
		}
	} else if r.OK {
		fmt.Fprintf(v.out, "%s executed again by one worker: gradients and parameters are the committed ones\n", plural(len(r.Steps), "step", "steps"))
	} else {
		fmt.Fprintf(v.out, "FAILED: %s\n", r.Error)
	}
	if !r.OK {
		return exitError{1}
	}
	return nil
}

// kernelLevel returns the kernels of a processor's numerics id; "" of another device's.
func kernelLevel(numerics string) string {
	if !strings.HasPrefix(numerics, "cpu/") {
		return ""
	}
	return numerics[strings.LastIndex(numerics, "/")+1:]
}

// committed returns the newest run of a folder's log that its run file is of, prepared.
func (v *resumeVerification) committed(dir string) (run *fsm.Run, p *prepared, err error) {
	past, err := consensus.OpenPast(dir)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, past.Close()) }()
	log, from, _, err := startOf(past)
	if err != nil {
		return nil, nil, err
	}
	state, err := replay(past, log, from)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range slices.Backward(state.Runs) {
		if v.run != "" && r.ID != v.run {
			continue
		}
		p, err := reopenRun(dir, v.file, v.sets, r, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, nil, fmt.Errorf("run %s: %w", r.ID, err)
		}
		_, identity, err := p.identity()
		if err == nil && identity == r.Identity {
			return r, p, nil
		}
		if err = errors.Join(err, p.close()); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("the log in %s has the runs %v, and none that its run file is of (--config and --set say with which settings it was begun)", dir, ledger.Runs(state))
}

// execute loads and goes on.
func (v *resumeVerification) execute(ctx context.Context, p *prepared, run *fsm.Run) (*resumeResult, error) {
	sub, err := p.submission()
	if err != nil {
		return nil, err
	}
	threads := v.threads
	if threads == 0 {
		threads = max(1, runtime.GOMAXPROCS(0))
	}
	dev, err := cpu.New(threads)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	if got := dev.Numerics(); run.Numerics != "" && got != run.Numerics {
		return nil, fmt.Errorf("the run was computed with numerics %q, this machine has %q: the bits of another kind of processor cannot be compared", run.Numerics, got)
	}
	info := worker.Run{RunInfo: wire.RunInfo{ID: run.ID, Name: run.Name, Identity: run.Identity, Spec: sub.Spec, Store: run.Store}}
	c := newCrew(threads, keepBytes(1), slog.New(slog.DiscardHandler))
	built, err := c.build(ctx, info, dev)
	if err != nil {
		return nil, err
	}
	t, ok := built.(alone)
	if !ok {
		return nil, fmt.Errorf("a trainer of type %T has no fleet of one", built)
	}
	defer t.Free()
	r := &resumeResult{Run: run.ID, OK: true}
	if err := v.load(ctx, c, info, t, run, r); err != nil {
		return nil, err
	}
	want := run.Initial
	if r.From > 0 {
		want = run.Ledger.At(r.From - 1).Parameters
	}
	if got := t.Digest(); got != want {
		r.OK, r.Error = false, fmt.Sprintf("the parameters after %d steps, from %s, have digest %.16s; %.16s is committed", r.From, r.source(), got, want)
		return r, nil
	}
	v.say("%s: the parameters are the committed ones, %.16s", r.source(), want)
	for s := r.From; s <= v.step && r.OK; s++ {
		if err := v.one(ctx, p.set, t, run, s, r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *resumeResult) source() string {
	if r.Checkpoint == "" {
		return "initial parameters"
	}
	return fmt.Sprintf("checkpoint of step %d (%s)", r.From, r.Checkpoint)
}

func (v *resumeVerification) say(format string, a ...any) {
	if !v.json {
		fmt.Fprintf(v.out, format+"\n", a...)
	}
}

// load restores the newest kept checkpoint of at most v.step steps that is sound.
func (v *resumeVerification) load(ctx context.Context, c *crew, info worker.Run, t alone, run *fsm.Run, r *resumeResult) error {
	for i := len(run.Manifests) - 1; i >= 0; i-- {
		m := run.Manifests[i]
		if m.Step > v.step {
			continue
		}
		err := c.stores.verify(ctx, m.Path, m.Digest)
		if err == nil {
			var state trainer.State
			if state, err = c.load(ctx, info, m.Path); err == nil {
				r.From, r.Checkpoint = m.Step, m.Path
				return t.Restore(state)
			}
		}
		r.Skipped = append(r.Skipped, fmt.Sprintf("checkpoint of step %d: %v", m.Step, err))
		v.say("skipped: %s", r.Skipped[len(r.Skipped)-1])
		if errors.Is(err, context.Canceled) || errors.Is(err, checkpoints.ErrUnreachable) {
			return err
		}
	}
	return nil // the trainer was built with the initial parameters
}

// one executes a step and compares it.
func (v *resumeVerification) one(ctx context.Context, set *data.Set, t alone, run *fsm.Run, s int64, r *resumeResult) error {
	began := time.Now()
	header, err := set.Header(s)
	if err != nil {
		return err
	}
	all := make([]int, len(header.Tokens))
	for i := range all {
		all[i] = i
	}
	read, err := set.Shards(s, all)
	if err != nil {
		return err
	}
	shards := make([]*data.Shard, len(read))
	for i := range read {
		shards[i] = &read[i]
	}
	o, err := t.Step(ctx, header, s, t.Solo(shards, header.Slots))
	if err != nil {
		return err
	}
	rec := run.Ledger.At(s)
	e := executedStep{Step: s + 1, Gradient: o.Gradient, Parameters: o.Parameters, Loss: o.Loss, Seconds: time.Since(began).Seconds()}
	e.OK = o.Gradient == rec.Gradient && o.Parameters == rec.Parameters
	r.Steps = append(r.Steps, e)
	if !e.OK {
		what := "parameters"
		if o.Gradient != rec.Gradient {
			what = "gradient and parameters"
		}
		r.OK = false
		r.Error = fmt.Sprintf("step %d: %s differ: executed again, gradient %.16s and parameters %.16s; committed were %.16s and %.16s",
			s+1, what, o.Gradient, o.Parameters, rec.Gradient, rec.Parameters)
		return nil
	}
	v.say("step %d: gradient %.16s, parameters %.16s, as committed (%.2f s)", s+1, o.Gradient, o.Parameters, e.Seconds)
	return nil
}
