package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/object"
	"github.com/counterpoint-ml/counterpoint/data/tokenize"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
)

// verified is the result of one checkpoint.
type verified struct {
	Path     string          `json:"path"`
	Run      string          `json:"run,omitempty"`
	Step     int64           `json:"step"`
	Identity string          `json:"identity,omitempty"`
	Digest   string          `json:"parameters,omitempty"`
	OK       bool            `json:"ok"`
	Checks   []verifiedCheck `json:"checks"`
	Notes    []string        `json:"notes,omitempty"`
}

type verifiedCheck struct {
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

func verifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify CHECKPOINT...",
		Short: "Check checkpoints, a run's ledger, a resume, or a fleet, and say what was checked",
		Long: `Of a checkpoint, every check is listed: the manifest, each file's checksum, tensors, shapes and values, and the digests of the
parameters, the tokenizer and the run's settings, computed again. Of a folder of checkpoints or of a run, each checkpoint is listed,
newest first. So may be s3:// URLs, whose objects are read where they are. The exit code is 1 if anything failed.`,
		Example: "  counterpoint verify runs/tiny-diffusion\n  counterpoint verify runs/tiny-diffusion/checkpoints/step-00000150",
		Args:    atLeast("CHECKPOINT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			var all []verified
			failed := false
			for i, path := range args {
				found, whole, err := verifyPath(cmd.Context(), path)
				if err != nil {
					return err
				}
				for j, v := range found {
					failed = failed || !v.OK
					if asJSON {
						continue
					}
					if i+j > 0 && whole {
						fmt.Fprintln(out)
					}
					v.print(out, whole)
				}
				all = append(all, found...)
			}
			if asJSON {
				encoder := json.NewEncoder(out)
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(all); err != nil {
					return err
				}
			}
			if failed {
				return exitError{1}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON list")
	cmd.AddCommand(verifyLedgerCommand(), verifyResumeCommand(), verifyFleetCommand())
	return cmd
}

// verifyPath verifies a checkpoint (whole: to be shown with each check) or those of a folder, newest first.
func verifyPath(ctx context.Context, path string) (found []verified, whole bool, err error) {
	folder, err := object.Folder(path)
	if err != nil {
		return nil, false, err
	}
	if folder == "" && path != "" {
		return verifyURL(ctx, path)
	}
	path = folder
	dir, err := checkpoints.SeriesFolder(path)
	if err != nil {
		return nil, false, err
	}
	if _, err := os.Stat(filepath.Join(path, checkpoints.ManifestName)); dir == "" && err != nil {
		return nil, false, fmt.Errorf("%s is neither a checkpoint nor a folder of checkpoints", path)
	}
	if dir == "" {
		return []verified{verify(ctx, path)}, true, nil
	}
	entries, err := (&checkpoints.Series{Store: checkpoints.NewLocal(dir)}).List(ctx, false)
	if err != nil {
		return nil, false, err
	}
	if len(entries) == 0 {
		return nil, false, fmt.Errorf("%s: %w", dir, checkpoints.ErrNone)
	}
	for _, e := range entries {
		v := verify(ctx, filepath.Join(dir, e.Name))
		v.Step = e.Step
		found = append(found, v)
	}
	return found, false, nil
}

// verifyURL is verifyPath of an object store. Each checkpoint is read from there, whatever copies this machine has.
func verifyURL(ctx context.Context, path string) (found []verified, whole bool, err error) {
	where, name := object.Split(path)
	store, err := object.Open(where, storeOptions(nil))
	if err != nil {
		return nil, false, err
	}
	names := []string{name}
	if name == "" {
		if names, err = store.List(ctx); err != nil {
			return nil, false, err
		}
		if len(names) == 0 {
			return nil, false, fmt.Errorf("%s: %w", path, checkpoints.ErrNone)
		}
		slices.Sort(names)
		slices.Reverse(names)
	}
	for _, name := range names {
		m, err := store.Inspect(ctx, name, true)
		if errors.Is(err, checkpoints.ErrUnreachable) {
			return nil, false, err
		}
		first := verifiedCheck{What: "every object in the bucket has the size and SHA-256 of the manifest", OK: err == nil}
		v := verified{}
		if err == nil {
			var dir string
			if dir, err = store.Fetch(ctx, name); err != nil {
				return nil, false, err
			}
			v = verify(ctx, dir)
		} else {
			first.Error = err.Error()
			if m != nil {
				v.Run, v.Step, v.Identity, v.Digest = m.Run, m.Step, m.Identity, m.ParameterDigest
			}
		}
		v.Path, v.OK, v.Checks = store.Path(name), v.OK && first.OK, append([]verifiedCheck{first}, v.Checks...)
		if step, ok := checkpoints.ParseName(name); ok {
			v.Step = step
		}
		found = append(found, v)
	}
	return found, name != "", nil
}

func verify(ctx context.Context, dir string) verified {
	r := checkpoints.Verify(ctx, dir, checkpoints.Hashers{
		Parameters: func(s *checkpoints.Snapshot) string { return stateOf(s).Digest() },
		Tokenizer: func(dir string) (string, error) {
			tok, err := tokenize.Open(dir)
			if err != nil {
				return "", err
			}
			return tok.Digest(), nil
		},
		Spec: func(settings []byte) (string, error) {
			sum := sha256.Sum256(settings)
			return hex.EncodeToString(sum[:]), nil
		},
	})
	v := verified{Path: dir, OK: r.Err() == nil, Notes: r.Notes}
	if m := r.Manifest; m != nil {
		v.Run, v.Step, v.Identity, v.Digest = m.Run, m.Step, m.Identity, m.ParameterDigest
	}
	for _, c := range r.Checks {
		check := verifiedCheck{What: c.What, OK: c.Err == nil}
		if c.Err != nil {
			check.Error = c.Err.Error()
		}
		v.Checks = append(v.Checks, check)
	}
	v.checkAdapter()
	return v
}

// checkAdapter compares the base of a sound adapter with the one that it was trained on.
func (v *verified) checkAdapter() {
	if !v.OK {
		return
	}
	run, err := encode.ReadRun(v.Path)
	if err != nil || run.Model.LoRA == nil || run.BaseDigest == "" {
		return
	}
	base, err := run.BaseFolder("")
	if err == nil {
		err = run.CheckBase(base, modelDigest)
	}
	if errors.Is(err, fs.ErrNotExist) {
		v.Notes = append(v.Notes, "the adapter's base is not on this machine and was not compared: "+err.Error())
		return
	}
	check := verifiedCheck{What: "the adapter's base " + base + " is the one that it was trained on", OK: err == nil}
	if err != nil {
		check.Error, v.OK = err.Error(), false
	}
	v.Checks = append(v.Checks, check)
}

func (v *verified) print(w io.Writer, whole bool) {
	const width = 7
	state := func(ok bool) string {
		if ok {
			return "ok"
		}
		return "FAILED"
	}
	if whole {
		fmt.Fprintf(w, "%s\n", v.Path)
		if v.Run != "" {
			fmt.Fprintf(w, "run %s, step %d, identity %.16s, parameters %.16s\n", v.Run, v.Step, v.Identity, v.Digest)
		}
	} else {
		fmt.Fprintf(w, "%-*s %s: step %d, %s", width, state(v.OK), v.Path, v.Step, plural(len(v.Checks), "check", "checks"))
		if v.Digest != "" {
			fmt.Fprintf(w, ", parameters %.16s", v.Digest)
		}
		fmt.Fprintln(w)
	}
	for _, c := range v.Checks {
		if whole || !c.OK {
			fmt.Fprintf(w, "%-*s %s\n", width, state(c.OK), c.What)
		}
		if !c.OK {
			fmt.Fprintf(w, "%-*s   %s\n", width, "", c.Error)
		}
	}
	for _, note := range v.Notes {
		if whole {
			fmt.Fprintf(w, "%-*s %s\n", width, "note", note)
		}
	}
}
