package main

import (
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/checkpoints/object"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/export"
)

func exportCommand() *cobra.Command {
	var o export.Options
	var threads int
	var shard string
	cmd := &cobra.Command{
		Use:   "export CHECKPOINT",
		Short: "Write a checkpoint as a folder that PEFT, sentence-transformers or transformers loads",
		Long: `CHECKPOINT is a checkpoint, or a folder of checkpoints or of a run: its newest one.

  peft                   the adapter, for AutoModel
  sentence-transformers  merged weights, pooling, normalisation and prompts
  huggingface            merged weights under the names of the base, head included

Every folder has the tokenizer and a model card. Before it gets its name it is read back: its embeddings of 32 texts must be
those of the checkpoint, whose adapters are computed beside the weights, to 1e-5 (bfloat16: 0.02).`,
		Example: `  counterpoint export runs/debian --format sentence-transformers
  counterpoint export runs/debian/checkpoints/step-00000100 --format peft --base-name HuggingFaceTB/SmolLM2-135M --out debian-lora
  counterpoint export runs/debian --format huggingface --dtype bfloat16`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Checkpoint, o.Version, o.Digest = args[0], version, modelDigest
			o.Scores = scores
			if o.Out == "" {
				o.Out = exportFolder(args[0], o.Format)
			}
			var err error
			if o.Checkpoint, err = findModel(cmd.Context(), args[0], nil); err != nil {
				return err
			}
			if o.Shard, err = parseSize(shard); err != nil {
				return fmt.Errorf("--shard-size: %w", err)
			}
			if threads <= 0 {
				threads = runtime.GOMAXPROCS(0)
			}
			dev, err := cpu.New(threads)
			if err != nil {
				return err
			}
			defer dev.Close()
			r, err := export.Export(cmd.Context(), dev, o)
			if err != nil {
				return err
			}
			printExport(cmd.OutOrStdout(), r, o.Format)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Format, "format", "sentence-transformers", strings.Join(export.Formats, ", "))
	f.StringVar(&o.Out, "out", "", "folder to write; default exports/RUN-FORMAT")
	f.BoolVar(&o.Force, "force", false, "replace a folder that is there")
	f.StringVar(&o.Base, "base", "", "folder of an adapter's base, if it has moved")
	f.StringVar(&o.BaseName, "base-name", "", "what adapter_config.json calls the base, such as its name on the hub; default its folder")
	f.StringVar(&o.DType, "dtype", "float32", "float32 or bfloat16")
	f.StringVar(&shard, "shard-size", "5GB", "most bytes of a file of weights")
	f.IntVar(&threads, "threads", 0, "threads of the self-check; default all cores")
	return cmd
}

// exportFolder names the default folder after the run: of runs/NAME/checkpoints/step-N it is NAME-step-N.
func exportFolder(path, format string) string {
	if object.IsURL(path) {
		path, _, _ = strings.Cut(strings.TrimPrefix(path, object.Scheme), "?")
	}
	path = filepath.Clean(path)
	name := filepath.Base(path)
	if strings.HasPrefix(name, "step-") {
		path = filepath.Dir(path)
	}
	if run := filepath.Base(path); run == "checkpoints" {
		path = filepath.Dir(path)
	}
	if run := filepath.Base(path); run != name {
		name = strings.TrimSuffix(run+"-"+name, "-checkpoints")
	}
	if name == "." || name == string(filepath.Separator) {
		name = "model"
	}
	return filepath.Join("exports", name+"-"+format)
}

// parseSize reads 5GB, 500MB or a number of bytes.
func parseSize(text string) (int64, error) {
	number, unit := strings.ToUpper(strings.TrimSpace(text)), int64(1)
	for _, u := range []struct {
		name string
		unit int64
	}{{"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}} {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.unit
			break
		}
	}
	var n int64
	if _, err := fmt.Sscanf(number+"\n", "%d\n", &n); err != nil || n < 1 || n > 1<<53/unit {
		return 0, fmt.Errorf("%q; a size such as 5GB or 500MB is allowed", text)
	}
	return n * unit, nil
}

func printExport(w io.Writer, r *export.Result, format string) {
	fmt.Fprintf(w, "%s -> %s (%s)\n", relative(r.Checkpoint), relative(r.Dir), format)
	for _, name := range r.Files {
		fmt.Fprintln(w, "  "+name)
	}
	fmt.Fprintf(w, "self-check: %d texts, largest difference of an embedding to the checkpoint's %.2g (at most %.2g)\n", r.Texts, r.Difference, r.Bound)
}

// scores returns what the run's events say about a checkpoint's step, if the checkpoint is still in the run's folder.
func scores(checkpoint string, step int64) map[string]float64 {
	r, err := readRecord(filepath.Dir(filepath.Dir(filepath.Clean(checkpoint))))
	if err != nil {
		return nil // a card without results says how to make some
	}
	out := map[string]float64{}
	for _, s := range r.Scores {
		for name, v := range s.Metrics {
			if s.Step == step {
				out[s.Suite+" "+name] = v
			}
		}
	}
	return out
}
