package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/progress"
	"github.com/counterpoint-ml/counterpoint/coordinator/report"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

func trainCommand() *cobra.Command {
	var sets []string
	var dryRun, resume, fresh, asJSON, quiet bool
	cmd := &cobra.Command{
		Use:   "train RUN.yaml",
		Short: "Train, evaluate and report in this process, with cluster.workers local workers",
		Long: `Train runs a whole fleet in one process: coordinator, NATS server and workers. A run that was interrupted, by a crash or
by Ctrl-C, goes on from where it was, with the same result. Ctrl-C once finishes the step and writes a checkpoint; twice ends at once.
A run file with stages is trained stage by stage; a stage that is finished is not done again.
With cluster.listen set, more workers may join over the network.`,
		Example: `  counterpoint train run.yaml --dry-run
  counterpoint train run.yaml --set train.batch=256 --set cluster.workers=4
  counterpoint train run.yaml --resume            after Ctrl-C or a failure`,
		Args: exactly("RUN.yaml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := configs.Load(args[0], configs.Layers{Env: os.Environ(), Set: sets})
			if err != nil {
				return err
			}
			if err := useKernels(config.Cluster.Kernels); err != nil {
				return err
			}
			if fresh {
				if err := setAside(config, cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			o := trainOptions{dryRun: dryRun, resume: resume, json: asJSON, quiet: quiet, again: commandLine("train", args[0], "", sets), sets: sets, notices: &notices{w: cmd.ErrOrStderr()}}
			ctx, drain := interrupts(cmd.Context(), o.notices, "\n"+stopping, atOnce+o.again)
			o.drain = drain
			return train(ctx, cmd, config, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&sets, "set", nil, "key=value over the run file and the environment; repeatable")
	f.BoolVar(&dryRun, "dry-run", false, "print the plan and stop")
	f.BoolVar(&resume, "resume", false, "let a run go on that was paused or has failed; without it such a run is an error")
	f.BoolVar(&fresh, "fresh", false, "begin again; what the run's folder holds is set aside")
	f.BoolVar(&asJSON, "json", false, "events as JSON lines")
	f.BoolVar(&quiet, "quiet", false, "no plan before the run")
	return cmd
}

type trainOptions struct {
	dryRun, resume, json, quiet bool
	part                        bool // of something that reports all stages itself
	drain                       <-chan struct{}
	title                       string   // of the progress bar; "" = the run's name
	again                       string   // the command that resumes the run
	notices                     *notices // what interrupts says
	sets                        []string // of the command line
}

// api returns what serves the HTTP API beside the node, if the run file asks for it; nil = it does not.
func (o *trainOptions) api(config *configs.Config, log *slog.Logger) func(context.Context, *coordinator.Node) (*apiServer, error) {
	if config.Cluster.API == "" || config.Cluster.API == noAPI {
		return nil
	}
	return func(ctx context.Context, n *coordinator.Node) (*apiServer, error) {
		s, err := serveAPI(ctx, n, config.Cluster.API, "", config, o.notices, log)
		if s != nil && !o.json && !o.quiet {
			fmt.Fprintf(o.notices, "steer it with: counterpoint status%s\n", serverFlag(s.server.URL()))
		}
		return s, err
	}
}

// train prepares and runs one run file in this process, or its stages.
func train(ctx context.Context, cmd *cobra.Command, config *configs.Config, file string, o trainOptions) error {
	if len(config.Stages) == 0 {
		_, _, err := trainOnce(ctx, cmd, config, file, o)
		return err
	}
	p := &pipeline{config: config, out: cmd.OutOrStdout(), json: o.json, part: o.part}
	if o.dryRun {
		return p.plan()
	}
	p.once = func(stage *configs.Config, title string) (coordinator.Outcome, *report.Record, error) {
		o.title = title
		return trainOnce(ctx, cmd, stage, file, o)
	}
	return p.run()
}

// trainOnce trains one run, and returns how it ended and what its report has.
func trainOnce(ctx context.Context, cmd *cobra.Command, config *configs.Config, file string, o trainOptions) (coordinator.Outcome, *report.Record, error) {
	var outcome coordinator.Outcome
	out := cmd.OutOrStdout()
	log, done, err := runLog(config)
	if err != nil {
		return outcome, nil, err
	}
	defer done()
	p, err := prepare(config, log)
	if err != nil {
		return outcome, nil, err
	}
	defer p.close()
	if o.dryRun {
		return outcome, nil, p.plan(out)
	}
	if madeBefore(p) == "" {
		shown := out
		if o.json || o.quiet {
			shown = io.Discard
		}
		if err := p.plan(shown); err != nil {
			return outcome, nil, err
		}
		fmt.Fprintln(shown)
	}
	p.sets = o.sets
	view := p.keep(chooseView(out, config, o), file, log)
	if w, ok := view.View.(io.Writer); ok {
		o.notices.to(w)
	}
	outcome, err = p.lead(ctx, launch{
		workers: config.Cluster.Workers, listen: config.Cluster.Listen, resume: o.resume, view: view, log: log, drain: o.drain, api: o.api(config, log),
	})
	o.notices.to(cmd.ErrOrStderr())
	view.Close()
	if err != nil {
		return outcome, nil, ending(ctx, cmd.ErrOrStderr(), atOnce+o.again, err)
	}
	if !view.accepted && outcome.State == fsm.Finished && !o.json {
		fmt.Fprintln(out, "the run was finished before: nothing was done; --fresh begins it again")
	}
	if !view.accepted && outcome.State == fsm.Paused {
		return outcome, nil, pausedBefore(outcome, o.again)
	}
	record, err := p.conclude(cmd, o.again, outcome, o.json)
	return outcome, record, err
}

func chooseView(out io.Writer, config *configs.Config, o trainOptions) progress.View {
	switch {
	case o.json:
		return progress.JSON(out)
	case terminal(out):
		title := o.title
		if title == "" {
			title = config.Name
		}
		return progress.Bar(out, title, config.Train.Steps)
	}
	return progress.Lines(out, config.Train.Steps, 5*time.Second)
}

// notices is where lines go that are no events: to the terminal, or through the bar while it has the terminal.
type notices struct {
	mu sync.Mutex
	w  io.Writer
}

func (n *notices) to(w io.Writer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.w = w
}

func (n *notices) Write(text []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.w.Write(text)
}

// runLog opens the log file in the run's folder.
func runLog(config *configs.Config) (*slog.Logger, func(), error) {
	dir := runDir(config)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("run folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "log.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("run folder: %w", err)
	}
	log, err := logger(f, config.Log.Level)
	return log, func() { f.Close() }, err
}

// conclude writes the report and the final table, and says what to do next: the command again, if the run is paused.
func (p *prepared) conclude(cmd *cobra.Command, again string, outcome coordinator.Outcome, asJSON bool) (*report.Record, error) {
	record, err := readRecord(p.dir)
	if err != nil {
		return nil, err
	}
	record.Name = p.config.Name
	for _, suite := range p.suites {
		row, err := referenceRow(suite)
		if err != nil {
			return nil, err
		}
		record.Rows = append(record.Rows, row)
	}
	page := filepath.Join(p.dir, "report.html")
	written := writeReport(page, report.Document{Title: p.config.Name, Note: outcome.Reason, Runs: []*report.Record{record}})
	if written != nil { // a full disk takes nothing from the run
		written = fmt.Errorf("write the report (once that is mended: counterpoint report %s): %w", quoted(relative(p.dir)), written)
	}
	if asJSON {
		return record, ended(outcome, written)
	}
	out := cmd.OutOrStdout()
	if rows := record.Results(); len(rows) > 0 {
		fmt.Fprintf(out, "\n%s\n", report.Table(rows, nil))
	}
	if n := len(record.Steps); n > 0 {
		fmt.Fprintf(out, "parameters  %s after step %d\n", record.Steps[n-1].Parameters, record.Steps[n-1].Step)
	}
	if n := len(record.Saves); n > 0 {
		fmt.Fprintf(out, "checkpoint  %s\n", relative(record.Saves[n-1].Path))
	}
	if written == nil {
		fmt.Fprintf(out, "report      %s\n", relative(page))
	}
	if outcome.State == fsm.Paused {
		fmt.Fprintf(out, "paused after step %d (%s); go on with: %s\n", outcome.Step, outcome.Reason, again)
	}
	return record, ended(outcome, written)
}

// referenceRow is the honest reference beside a model's rows: BM25, and random vectors where a task has no queries.
func referenceRow(suite *data.Suite) (report.Row, error) {
	sheet := suite.Sheet()
	if sheet.Kind != "" {
		metrics, err := evaluate.Random(&sheet, suite.Header().Slots, 42)
		return report.Row{Label: "random vectors", Suite: suite.Name, Metrics: metrics}, err
	}
	metrics, err := evaluate.Lexical(suite)
	return report.Row{Label: "BM25 (reference)", Suite: suite.Name, Metrics: metrics}, err
}

// byUser is the reason of a pause that was asked for.
const byUser = "stopped by the user"

// ended is the command's error for how the run ended: none for finished and for paused on request.
func ended(o coordinator.Outcome, err error) error {
	if o.State == fsm.Failed || o.State == fsm.Cancelled || o.State == fsm.Paused && o.Reason != byUser {
		return errors.Join(fmt.Errorf("run %s after step %d: %s", o.State, o.Step, o.Reason), err)
	}
	return err
}

// pausedBefore is the error of a command that was to train and has not: the run is paused, and --resume was not given.
func pausedBefore(o coordinator.Outcome, again string) error {
	return fmt.Errorf("the run is paused after step %d (%s) and nothing was done; go on with: %s", o.Step, o.Reason, again)
}

// atOnce is said after a second Ctrl-C.
const atOnce = "ended at once; go on with: "

// ending is err, or, once the user has ended the process, the exit code of that, after saying what.
func ending(ctx context.Context, w io.Writer, what string, err error) error {
	if ctx.Err() != nil {
		fmt.Fprintln(w, what)
		return exitError{interrupted}
	}
	return err
}

// relative shortens a path below the current folder.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if r, err := filepath.Rel(wd, path); err == nil && filepath.IsLocal(r) {
		return r
	}
	return path
}
