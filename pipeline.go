package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints/object"
	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/report"
)

// stagesName is the file in a pipeline's folder that lists its stages' folders, in their order.
const stagesName = "stages.json"

// pipeline runs the stages of a run file one after another. Each is a run of its own, with its own identity, log and
// checkpoints; the next begins with the final checkpoint of the one before, whose digest is part of its identity. So a
// pipeline that goes on after a crash finds out from its stages' logs what is done.
type pipeline struct {
	config *configs.Config
	out    io.Writer
	json   bool
	part   bool // no table and no report at the end
	// once leads one stage, and writes its report.
	once func(stage *configs.Config, title string) (coordinator.Outcome, *report.Record, error)
}

// run ends when all stages are finished, or one is paused or has failed.
func (p *pipeline) run() error {
	dir, err := filepath.Abs(runDir(p.config))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	lock, err := consensus.Acquire(dir, version)
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := p.list(dir); err != nil {
		return err
	}
	var records []*report.Record
	for i := range p.config.Stages {
		s := &p.config.Stages[i]
		if !p.json {
			fmt.Fprintf(p.out, "%s== stage %d of %d: %s\n", map[bool]string{true: "\n"}[i > 0], i+1, len(p.config.Stages), s.Name)
		}
		outcome, record, err := p.once(s.Config, fmt.Sprintf("%s (%d of %d)", s.Config.Name, i+1, len(p.config.Stages)))
		if err != nil {
			return fmt.Errorf("stage %s: %w", s.Name, err)
		}
		if outcome.State != fsm.Finished {
			return nil
		}
		if err := final(context.Background(), outcome); err != nil {
			return fmt.Errorf("stage %s is finished, but what it has made cannot be used: %w; put it back, or begin all stages again with --fresh", s.Name, err)
		}
		records = append(records, record)
		if !object.IsURL(outcome.Checkpoint) {
			if err := relink(dir, filepath.Dir(outcome.Checkpoint)); err != nil {
				return err
			}
		}
		if i+1 < len(p.config.Stages) {
			handOver(&p.config.Stages[i+1], s.Config, outcome.Checkpoint)
		}
	}
	if p.part {
		return nil
	}
	return p.conclude(dir, records)
}

// final reads the last checkpoint of a finished stage, and compares it with the committed digest.
func final(ctx context.Context, o coordinator.Outcome) error {
	if o.Checkpoint == "" {
		return fmt.Errorf("there is no checkpoint of step %d", o.Step)
	}
	return newStores(slog.New(slog.DiscardHandler)).verify(ctx, o.Checkpoint, o.Manifest)
}

// handOver gives a stage what the one before it has made: its weights, or its adapter over the weights that it began
// with. An adapter's checkpoint carries what was merged below it.
func handOver(next *configs.Stage, before *configs.Config, checkpoint string) {
	m := &next.Config.Model
	if before.Model.LoRA == nil {
		m.Path, m.Preset = checkpoint, ""
		return
	}
	m.Path, m.Preset = before.Model.Path, before.Model.Preset
	if next.Previous == configs.Continued {
		m.Adapter = checkpoint
	} else {
		m.Merge = []string{checkpoint}
	}
}

// plan writes every stage's plan. Of a stage whose predecessor is not finished the weights are not known yet: its plan is
// that of the file's model, and it has no identity.
func (p *pipeline) plan() error {
	waits := ""
	for i := range p.config.Stages {
		s := &p.config.Stages[i]
		log, done, err := runLog(s.Config)
		if err != nil {
			return err
		}
		defer done()
		run, err := prepare(s.Config, log)
		if err != nil {
			return fmt.Errorf("stage %s: %w", s.Name, err)
		}
		run.after, run.previous = waits, s.Previous
		fmt.Fprintf(p.out, "%s== stage %d of %d: %s\n", map[bool]string{true: "\n"}[i > 0], i+1, len(p.config.Stages), s.Name)
		if err := errors.Join(run.plan(p.out), run.close()); err != nil {
			return fmt.Errorf("stage %s: %w", s.Name, err)
		}
		if i+1 == len(p.config.Stages) {
			break
		}
		if checkpoint := madeBefore(run); waits == "" && checkpoint != "" {
			handOver(&p.config.Stages[i+1], s.Config, checkpoint)
		} else {
			waits = s.Name
		}
	}
	return nil
}

// madeBefore returns the final checkpoint of a stage that finished in an earlier life, as its events have it.
func madeBefore(p *prepared) string {
	r, err := readRecord(p.dir)
	if err != nil || r.State != string(fsm.Finished) || len(r.Saves) == 0 {
		return ""
	}
	path := r.Saves[len(r.Saves)-1].Path
	if _, err := os.Stat(path); err != nil && !object.IsURL(path) || r.Saves[len(r.Saves)-1].Step != p.config.Train.Steps {
		return ""
	}
	return path
}

// list writes the stages' names for `counterpoint report`.
func (p *pipeline) list(dir string) error {
	var names []string
	for _, s := range p.config.Stages {
		names = append(names, s.Name)
	}
	text, err := json.Marshal(names)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, stagesName), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	return nil
}

// relink makes the pipeline's folder stand for the checkpoints of the stage that finished last, for everything that
// takes a run's folder.
func relink(dir, checkpoints string) error {
	link := filepath.Join(dir, "checkpoints")
	if info, err := os.Lstat(link); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return nil // somebody's own folder
	}
	if near, err := filepath.Rel(dir, checkpoints); err == nil && filepath.IsLocal(near) {
		checkpoints = near
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("run folder: %w", err)
	}
	if err := os.Symlink(checkpoints, link); err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	return nil
}

// conclude writes the report and the table of all stages.
func (p *pipeline) conclude(dir string, records []*report.Record) error {
	doc := report.Document{Title: p.config.Name, Note: stagesNote(p.config.Stages), Runs: records}
	for i, r := range records { // the reference rows of a suite once
		r.Rows = slices.DeleteFunc(r.Rows, func(row report.Row) bool {
			return slices.ContainsFunc(records[:i], func(o *report.Record) bool {
				return slices.ContainsFunc(o.Rows, func(had report.Row) bool { return had.Label == row.Label && had.Suite == row.Suite })
			})
		})
		doc.Table = append(doc.Table, r.Results()...)
	}
	page := filepath.Join(dir, "report.html")
	if err := writeReport(page, doc); err != nil {
		return fmt.Errorf("write the report (once that is mended: counterpoint report %s): %w", quoted(relative(dir)), err)
	}
	if p.json {
		return nil
	}
	if len(doc.Table) > 0 {
		fmt.Fprintf(p.out, "\n%s\n", report.Table(doc.Table, nil))
	}
	fmt.Fprintf(p.out, "all %d stages are finished\ncheckpoint  %s\nreport      %s\n", len(records), relative(filepath.Join(dir, "checkpoints")), relative(page))
	return nil
}

func stagesNote(stages []configs.Stage) string {
	var names []string
	for _, s := range stages {
		names = append(names, s.Name)
	}
	return "stages, each begun with what the one before has made: " + strings.Join(names, ", ")
}

// stageFolders lists the folders of a pipeline's stages that have begun, in their order; dir itself of a single run.
func stageFolders(dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, stagesName))
	if errors.Is(err, fs.ErrNotExist) {
		return []string{dir}, nil
	}
	if err != nil {
		return nil, err
	}
	var names, out []string
	if err := json.Unmarshal(text, &names); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, stagesName), err)
	}
	for _, name := range names {
		stage := filepath.Join(dir, filepath.Base(name))
		if _, err := os.Stat(filepath.Join(stage, "events.jsonl")); err == nil {
			out = append(out, stage)
		}
	}
	if len(out) == 0 {
		err = fmt.Errorf("%s: none of the stages %s has begun", dir, strings.Join(names, ", "))
	}
	return out, err
}
