package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
)

// embedding is what the flags of embed say.
type embedding struct {
	encode.Options
	out, format, prompt, promptName string
	resume                          bool
	threads                         int
	rounding
}

func embedCommand() *cobra.Command {
	var e embedding
	cmd := &cobra.Command{
		Use:   "embed MODEL [TEXTS]",
		Short: "Turn texts into vectors with a checkpoint, or with a Hugging Face, PEFT or sentence-transformers folder",
		Long: `MODEL is a checkpoint, a folder of checkpoints or of a run (its newest one), a Hugging Face folder, a PEFT adapter over a base on
this machine, or a sentence-transformers folder. Prompts, pooling, attention and length are those of the folder; flags say otherwise.
Checkpoints read texts without special tokens, as in training; of the other folders the tokenizer's own are put around each text.

Each line of the texts is a JSON string, or an object with text, perhaps title, and perhaps id (or _id), which the vector's line
repeats. Without a file the texts come from standard input; a file may be compressed with gzip, or Parquet with these columns.
Vectors are in the order of the texts.`,
		Example: `  counterpoint embed runs/tiny-diffusion < texts.jsonl > vectors.jsonl
  counterpoint embed ./bge-like corpus.jsonl --out corpus.npy --prompt-name document
  counterpoint embed runs/debian corpus.jsonl.gz --out corpus.parquet --int8
  counterpoint embed runs/debian corpus.jsonl --out corpus.npy --resume      after an interruption`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, unix.SIGTERM)
			defer stop()
			name, in := "stdin", cmd.InOrStdin()
			if len(args) == 2 {
				f, err := data.OpenText(args[1])
				if err != nil {
					return fmt.Errorf("texts: %w", err)
				}
				defer f.Close()
				name, in = args[1], f
			}
			return e.command(ctx, cmd, args[0], name, in)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&e.out, "out", "o", "", "file of the vectors; default standard output")
	f.StringVar(&e.format, "format", "", "jsonl, npy (float32 [N, D]) or parquet (columns id, embedding); default by --out's ending, else jsonl")
	f.StringVar(&e.prompt, "prompt", "", "put before every text as it is")
	f.StringVar(&e.promptName, "prompt-name", "", "one of the model's own prompts, such as query or document")
	f.IntVar(&e.MaxLength, "max-length", 0, "tokens of a text, prompt included; default the model's")
	f.IntVar(&e.Dimensions, "dimensions", 0, "leading dimensions of an embedding that are kept, normalised again (loss.matryoshka); default all")
	f.StringVar(&e.Pooling, "pooling", "", "mean, weighted_mean, last_token or first_token")
	f.StringVar(&e.Attention, "attention", "", "causal or bidirectional")
	f.StringVar(&e.Base, "base", "", "folder of an adapter's base, if it is not where the adapter says")
	f.BoolVar(&e.Plain, "no-special-tokens", false, "put no special tokens around texts")
	f.IntVar(&e.BatchTokens, "batch-tokens", 4096, "tokens of a batch, at most")
	f.BoolVar(&e.resume, "resume", false, "go on with --out after an interruption")
	f.IntVar(&e.threads, "threads", 0, "threads; default all cores")
	e.rounding.flags(f)
	cmd.MarkFlagsMutuallyExclusive("prompt", "prompt-name")
	return cmd
}

func (e *embedding) command(ctx context.Context, cmd *cobra.Command, model, name string, in io.Reader) error {
	if e.MaxLength < 0 || e.threads < 0 || e.BatchTokens < 1 {
		return fmt.Errorf("--max-length %d, --threads %d, --batch-tokens %d: too small", e.MaxLength, e.threads, e.BatchTokens)
	}
	if e.threads == 0 {
		e.threads = runtime.GOMAXPROCS(0)
	}
	if e.format == "" {
		e.format = encode.JSONL
		if ending := strings.TrimPrefix(filepath.Ext(e.out), "."); slices.Contains(encode.Formats, ending) {
			e.format = ending
		}
	}
	stderr := cmd.ErrOrStderr()
	dev, free, err := e.device(e.threads, &e.Options, stderr)
	if err != nil {
		return err
	}
	defer free()
	if e.Log, err = logger(cmd.ErrOrStderr(), "warn"); err != nil {
		return err
	}
	e.Digest = modelDigest
	if model, err = findModel(ctx, model, e.Log); err != nil {
		return err
	}
	m, err := encode.Open(ctx, model, dev, e.Options)
	if err != nil {
		return err
	}
	defer m.Close()
	prompt := e.prompt
	if !cmd.Flags().Changed("prompt") {
		if prompt, err = m.Prompt(e.promptName); err != nil {
			return err
		}
	}
	e.describe(stderr, m, prompt)
	stream := &encode.Stream{
		Encoder: m, Prompt: prompt, Input: in, Name: name, Format: e.format, Out: e.out, Resume: e.resume, Stdout: cmd.OutOrStdout(),
		Report: embedTicker(stderr),
	}
	stats, err := stream.Run(ctx)
	if terminal(stderr) {
		fmt.Fprint(stderr, "\r\x1b[K")
	}
	switch {
	case errors.Is(err, context.Canceled) && e.out != "":
		return fmt.Errorf("interrupted after %s; the same command with --resume goes on", plural(stats.Texts, "text", "texts"))
	case err != nil:
		return err
	case stats.Complete:
		fmt.Fprintf(stderr, "%s is complete already\n", e.out)
		return nil
	}
	e.summary(stderr, m, stats)
	return nil
}

// attention is the one that a model computes with.
func attention(m *encode.Encoder) string {
	if m.Attention == "" {
		return map[bool]string{true: "bidirectional", false: "causal"}[m.Architecture().Bidirectional]
	}
	return m.Attention
}

// describe says what is computed with what.
func (e *embedding) describe(w io.Writer, m *encode.Encoder, prompt string) {
	before := ""
	if prompt != "" {
		before = fmt.Sprintf(", after %q", prompt)
	}
	limit := "any length"
	if m.MaxLength > 0 {
		limit = fmt.Sprintf("at most %s tokens", grouped(m.MaxLength))
	}
	fmt.Fprintf(w, "%s (%s): %s, %d dimensions, %s attention, %s pooling, %s%s\n", relative(m.Dir), m.Kind, m.Architecture().Family,
		m.Width(), attention(m), strings.ReplaceAll(m.Pooling, "_", " "), limit, before)
}

func (e *embedding) summary(w io.Writer, m *encode.Encoder, s encode.Stats) {
	fmt.Fprintf(w, "%s, %s tokens", plural(s.Texts, "text", "texts"), count(s.Tokens))
	if s.Seconds > 0 {
		fmt.Fprintf(w, " in %s", span(s.Seconds))
	}
	if s.Skipped > 0 {
		fmt.Fprintf(w, " (%s embedded before)", grouped(s.Skipped))
	}
	if s.Truncated > 0 {
		fmt.Fprintf(w, "; %s longer than %s tokens and cut", plural(s.Truncated, "text was", "texts were"), grouped(m.MaxLength))
	}
	fmt.Fprintln(w)
}

// embedTicker shows how far a stream is: a line that changes on a terminal, a line every ten seconds elsewhere.
func embedTicker(w io.Writer) func(encode.Stats) {
	live := terminal(w)
	last := time.Now()
	return func(s encode.Stats) {
		if !live && time.Since(last) < 10*time.Second {
			return
		}
		last = time.Now()
		begin, end := "", "\n"
		if live {
			begin, end = "\r\x1b[K", ""
		}
		fmt.Fprintf(w, "%s%s texts, %s tokens, %s%s", begin, grouped(s.Texts), count(s.Tokens), span(s.Seconds), end)
	}
}
