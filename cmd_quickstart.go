package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator/report"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/tokenize/tiny"
)

func quickstartCommand() *cobra.Command {
	var dir string
	var seed uint64
	cmd := &cobra.Command{
		Use:   "quickstart",
		Short: "Pre-train, fine-tune and evaluate two tiny backbones; no download",
		Long: `Quickstart takes 6,000 package descriptions that are part of this binary and, for a masked-diffusion backbone and
for a causal one, runs two stages with two workers each: pre-training on the texts, then contrastive fine-tuning from its checkpoint.
It ends with one table and one report.`,
		Example: "  counterpoint quickstart\n  counterpoint quickstart --seed 7 --dir /tmp/qs",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			say := &notices{w: cmd.ErrOrStderr()}
			ctx, drain := interrupts(cmd.Context(), say, "\nstopping after the step in flight", "ended at once")
			return quickstart(ctx, cmd, drain, say, dir, seed)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", filepath.Join("runs", "quickstart"), "folder to work in")
	cmd.Flags().Uint64Var(&seed, "seed", 42, "seed of everything")
	return cmd
}

// quickstart runs two files of two stages each, and reports them together.
func quickstart(ctx context.Context, cmd *cobra.Command, drain <-chan struct{}, say *notices, dir string, seed uint64) error {
	began := time.Now()
	out := cmd.OutOrStdout()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	files := filepath.Join(dir, "data")
	if err := clearQuickstart(dir); err != nil {
		return err
	}
	if err := unpack(configs.Quickstart, "quickstart", files); err != nil {
		return fmt.Errorf("unpack the quickstart's data: %w", err)
	}
	doc := report.Document{Title: "Counterpoint quickstart", Table: []report.Row{}}
	for _, backbone := range []string{"tiny-diffusion", "tiny-causal"} {
		fmt.Fprintf(out, "\n%s\n", backbone)
		sets := []string{fmt.Sprintf("train.seed=%d", seed), "log.dir=" + filepath.Join(dir, backbone)}
		file := filepath.Join(files, backbone+".yaml")
		config, err := configs.Load(file, configs.Layers{Set: sets})
		if err != nil {
			return err
		}
		o := trainOptions{quiet: true, part: true, drain: drain, again: commandLine("train", file, "", sets), notices: say}
		if err := train(ctx, cmd, config, file, o); err != nil {
			return fmt.Errorf("%s: %w", backbone, err)
		}
		select {
		case <-drain:
			return fmt.Errorf("stopped in %s", backbone)
		default:
		}
		for i, stage := range config.Stages {
			record, err := readRecord(stage.Config.Log.Dir)
			if err != nil {
				return err
			}
			record.Name = stage.Config.Name
			doc.Runs = append(doc.Runs, record)
			doc.Table = append(doc.Table, quickstartRows(backbone, i == 0, record)...)
		}
	}
	bm25, err := quickstartBM25(files)
	if err != nil {
		return err
	}
	doc.Table = append([]report.Row{bm25}, doc.Table...)
	doc.Note = fmt.Sprintf("two backbones, pre-trained and fine-tuned on %d package descriptions in %s", 6000, time.Since(began).Round(time.Second))
	page := filepath.Join(dir, "report.html")
	if err := writeReport(page, doc); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\nreport  %s\ntook    %s\n\n", report.Table(doc.Table, []string{"ndcg@10", "r@1"}), relative(page), time.Since(began).Round(time.Second))
	fmt.Fprint(out, `next    counterpoint config example > run.yaml   a run of your own
        counterpoint train run.yaml --dry-run    what it would do
        counterpoint config explain              every key
`)
	return nil
}

// clearQuickstart removes what an earlier quickstart left: a demonstration begins anew each time. A folder of anything
// else is refused.
func clearQuickstart(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "tiny-diffusion.yaml")); err != nil {
		return fmt.Errorf("--dir %s is not empty and not an earlier quickstart's: name a folder that is new, or empty it yourself", dir)
	}
	return os.RemoveAll(dir)
}

// quickstartBM25 is the reference row of the dev set.
func quickstartBM25(files string) (report.Row, error) {
	tok, err := tiny.Open()
	if err != nil {
		return report.Row{}, err
	}
	suite, err := data.OpenSuite(data.SuiteConfig{Path: filepath.Join(files, "dev"), MaxLength: 96}, tok, filepath.Join(files, "cache"), slog.New(slog.DiscardHandler))
	if err != nil {
		return report.Row{}, err
	}
	return referenceRow(suite)
}

// quickstartRows names the evaluations of a stage, the first one's or the last one's, for the table.
func quickstartRows(backbone string, first bool, r *report.Record) []report.Row {
	var rows []report.Row
	for i, s := range r.Scores {
		label := ""
		switch {
		case first && i == 0:
			label = "before pre-training"
		case first && i == len(r.Scores)-1:
			label = "after pre-training"
		case !first && i == len(r.Scores)-1:
			label = "after contrastive"
		default:
			continue
		}
		rows = append(rows, report.Row{Label: backbone + ", " + label, Suite: s.Suite, Metrics: s.Metrics})
	}
	return rows
}

// unpack writes an embedded folder to dir.
func unpack(files fs.FS, root, dir string) error {
	return fs.WalkDir(files, root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		if entry.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o644)
	})
}
