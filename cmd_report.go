package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/report"
)

func reportCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "report RUN-FOLDER...",
		Short:   "Write report.html again from the events of one run, all stages of one, or several side by side",
		Example: "  counterpoint report runs/tiny-diffusion runs/tiny-causal --out both.html",
		Args:    atLeast("RUN-FOLDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var doc report.Document
			var folders []string
			for _, dir := range args {
				stages, err := stageFolders(dir)
				if err != nil {
					return err
				}
				folders = append(folders, stages...)
			}
			for _, dir := range folders {
				r, err := readRecord(dir)
				if err != nil {
					return err
				}
				doc.Runs = append(doc.Runs, r)
				doc.Title += map[bool]string{true: "", false: " · "}[doc.Title == ""] + r.Name
			}
			if out == "" {
				out = filepath.Join(args[0], "report.html")
			}
			if err := writeReport(out, doc); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "wrote", out)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write; default RUN-FOLDER/report.html")
	return cmd
}

// readRecord reads a run folder: events.jsonl, and beside it the plan and the run file if they are there.
func readRecord(dir string) (*report.Record, error) {
	f, err := os.Open(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("read run folder %s: %w", dir, err)
	}
	defer f.Close()
	r := &report.Record{Name: filepath.Base(dir), Version: version}
	if err := r.Read(f); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	for name, to := range map[string]*string{"plan.txt": &r.Plan, "run.yaml": &r.Config, "identity.txt": &r.Identity} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			*to = string(text)
		}
	}
	return r, nil
}

// writeReport writes the page beside its final name first, so that a reader never sees half of it.
func writeReport(path string, doc report.Document) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := doc.HTML(tmp); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Chmod(tmp.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
