package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/report"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// evaluation is what the flags of eval say.
type evaluation struct {
	encode.Options
	query, document string // instructions, and from fill on what is put before the texts
	given           func(flag string) bool
	split, runFile  string
	threads         int
	json            bool
}

// evalResult is one suite's line of `eval --json`.
type evalResult struct {
	Suite     string             `json:"suite"`
	Queries   int                `json:"queries"`
	Documents int                `json:"documents"`
	Tokens    int64              `json:"tokens"`
	Truncated int                `json:"truncated"`
	Seconds   float64            `json:"seconds"`
	Metrics   map[string]float64 `json:"metrics"`
	BM25      map[string]float64 `json:"bm25"`
}

func evalCommand() *cobra.Command {
	var e evaluation
	cmd := &cobra.Command{
		Use:   "eval CHECKPOINT SUITE...",
		Short: "Evaluate a checkpoint, or a Hugging Face, PEFT or sentence-transformers folder, on retrieval sets in BEIR layout, beside BM25",
		Long: `CHECKPOINT is a checkpoint, a folder of checkpoints or of a run (its newest sound one), a Hugging Face folder, a PEFT adapter over
a base on this machine, or a sentence-transformers folder. SUITE is a folder with corpus.jsonl[.gz], queries.jsonl[.gz] and
qrels/*.tsv. Texts are written, cut and pooled as the checkpoint's run did, or as the folder says (its prompts query and document);
flags say otherwise. Of a model that says nothing: no instructions, 512 tokens, mean pooling, its own attention.`,
		Example: `  counterpoint eval runs/tiny-diffusion configs/quickstart/dev
  counterpoint eval runs/debian/checkpoints/step-00000100 dev/ --attention causal
  counterpoint eval ./qwen2.5-0.5b scifact/ --pooling last_token --instruction "Find the evidence" --run scifact.trec`,
		Args: atLeast("CHECKPOINT", "SUITE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.given = cmd.Flags().Changed
			return e.command(cmd, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.Pooling, "pooling", "", "mean, weighted_mean, last_token or first_token")
	f.StringVar(&e.Attention, "attention", "", "causal or bidirectional")
	f.StringVar(&e.Base, "base", "", "folder of the model that an adapter was trained on, if it has moved")
	f.StringVar(&e.query, "instruction", "", "put before queries; \"\" for none")
	f.StringVar(&e.document, "document-instruction", "", "put before documents; \"\" for none")
	f.IntVar(&e.MaxLength, "max-length", 0, "tokens of a text, instruction included")
	f.StringVar(&e.split, "split", "", "qrels/SPLIT.tsv; needed if there are several")
	f.StringVar(&e.runFile, "run", "", "write what was retrieved as a TREC run file; of several suites with the suite's name before its ending")
	f.IntVar(&e.threads, "threads", 0, "threads; default all cores")
	f.BoolVar(&e.json, "json", false, "one JSON object")
	return cmd
}

func (e *evaluation) command(cmd *cobra.Command, checkpoint string, suites []string) error {
	out, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	log, err := logger(stderr, "warn")
	if err != nil {
		return err
	}
	if e.MaxLength < 0 || e.threads < 0 {
		return fmt.Errorf("--max-length %d, --threads %d: negative", e.MaxLength, e.threads)
	}
	if e.threads == 0 {
		e.threads = runtime.GOMAXPROCS(0)
	}
	dev, err := cpu.New(e.threads)
	if err != nil {
		return err
	}
	defer dev.Close()
	e.Log, e.Unmerged = log, true // as the run itself evaluates
	model, err := encode.Open(cmd.Context(), checkpoint, dev, e.Options)
	if err != nil {
		return err
	}
	defer model.Close()
	name, err := e.fill(model, checkpoint)
	if err != nil {
		return err
	}
	var results []evalResult
	var rows []report.Row
	for _, path := range suites {
		r, err := e.suite(cmd, model, path, len(suites) > 1)
		if err != nil {
			return err
		}
		results = append(results, r)
		rows = append(rows,
			report.Row{Label: "BM25 (reference)", Suite: r.Suite, Metrics: r.BM25},
			report.Row{Label: name, Suite: r.Suite, Metrics: r.Metrics})
	}
	if e.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{
			"checkpoint": model.Dir, "name": name, "kind": model.Kind, "pooling": model.Pooling, "attention": attention(model),
			"query_prompt": e.query, "document_prompt": e.document, "max_length": model.MaxLength, "suites": results,
		})
	}
	e.print(out, model, name, rows, results)
	return nil
}

// fill takes from the model what the flags leave open, and returns the model's name for people.
func (e *evaluation) fill(model *encode.Encoder, path string) (name string, err error) {
	for _, x := range []struct {
		flag, role string
		prompt     *string
	}{{"instruction", "query", &e.query}, {"document-instruction", "document", &e.document}} {
		own, ok := model.Prompts[x.role]
		if !ok {
			own = model.Prompts[model.DefaultPrompt]
		}
		switch {
		case !e.given(x.flag):
			*x.prompt = own
		case *x.prompt != "":
			*x.prompt += ": " // as in training
		}
	}
	const long = 512 // a model's own limit is often that of its positions: 32,768 and more
	if own := model.Kind == encode.Checkpoint || model.Kind == encode.Sentence; e.MaxLength == 0 && (!own || model.MaxLength == 0) {
		if model.MaxLength == 0 || model.MaxLength > long {
			model.MaxLength = long
		}
	}
	if model.Kind != encode.Checkpoint {
		return filepath.Base(filepath.Clean(path)), nil
	}
	run, err := encode.ReadRun(model.Dir)
	if err != nil {
		return "", err
	}
	if run.Model.LoRA != nil {
		base, err := run.BaseFolder(e.Base)
		if err == nil {
			err = run.CheckBase(base, modelDigest)
		}
		if err != nil {
			e.Log.Warn("the base differs from the one that the adapter was trained on", "error", err)
		}
	}
	return fmt.Sprintf("%s, step %d", run.Run, run.Step), nil
}

// suite evaluates the model on one suite.
func (e *evaluation) suite(cmd *cobra.Command, model *encode.Encoder, path string, several bool) (evalResult, error) {
	config := data.SuiteConfig{Path: path, Split: e.split, MaxLength: model.MaxLength}
	suite, err := data.OpenSuite(config, model.Tokenizer(), "", e.Log)
	if err != nil {
		return evalResult{}, err
	}
	defer suite.Close()
	r := evalResult{Suite: suite.Name, Queries: len(suite.Queries), Documents: len(suite.Documents)}
	began := time.Now()
	rows, err := e.embed(cmd.Context(), model, suite, &r, ticker(cmd.ErrOrStderr(), suite.Name))
	if err != nil {
		return r, fmt.Errorf("suite %s: %w", suite.Name, err)
	}
	r.Seconds = time.Since(began).Seconds()
	sheet := suite.Sheet()
	run, err := evaluate.Retrieve(&sheet, rows, model.Width())
	if err != nil {
		return r, err
	}
	if r.Metrics, err = evaluate.ScoreRun(run, suite.Qrels); err != nil {
		return r, err
	}
	if r.BM25, err = evaluate.Lexical(suite); err != nil || e.runFile == "" {
		return r, err
	}
	return r, writeRun(runName(e.runFile, suite.Name, several), run, "counterpoint")
}

// embed returns the embeddings of a suite in slot order, [Q+D, D], and counts its tokens.
func (e *evaluation) embed(ctx context.Context, model *encode.Encoder, suite *data.Suite, r *evalResult, progress func(done, all int)) ([]float32, error) {
	const window = 256 // texts whose tokens are held at once
	slots := suite.Header().Slots
	rows := make([]float32, 0, slots*model.Width())
	for lo := 0; lo < slots; lo += window {
		var texts []data.Text
		for slot := lo; slot < min(lo+window, slots); slot++ {
			text, err := suite.Text(slot)
			if err != nil {
				return nil, err
			}
			prompt := e.document
			if slot < len(suite.Queries) {
				prompt = e.query
			}
			t, cut := model.Tokenize(prompt, text)
			if cut {
				r.Truncated++
			}
			r.Tokens += int64(len(t.Tokens))
			texts = append(texts, t)
		}
		part, err := model.Embed(ctx, texts)
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
		progress(lo+len(texts), slots)
	}
	return rows, nil
}

func (e *evaluation) print(out io.Writer, model *encode.Encoder, name string, rows []report.Row, results []evalResult) {
	fmt.Fprintf(out, "%s (%s)\n", name, relative(model.Dir))
	written := func(prompt string) string {
		if prompt == "" {
			return "as they are"
		}
		return fmt.Sprintf("after %q", prompt)
	}
	fmt.Fprintf(out, "queries %s, documents %s, at most %d tokens\n\n%s\n", written(e.query), written(e.document), model.MaxLength, report.Table(rows, nil))
	for _, r := range results {
		fmt.Fprintf(out, "%s: %s queries, %s documents, %s tokens in %s (%s tokens/s); %s longer than %s tokens and cut\n", r.Suite,
			grouped(r.Queries), grouped(r.Documents), count(r.Tokens), span(r.Seconds), count(int64(float64(r.Tokens)/r.Seconds)),
			plural(r.Truncated, "text was", "texts were"), grouped(model.MaxLength))
	}
}

// ticker shows progress on a terminal, and nothing elsewhere.
func ticker(w io.Writer, name string) func(done, all int) {
	if !terminal(w) {
		return func(int, int) {}
	}
	var last time.Time
	began := time.Now()
	return func(done, all int) {
		if done == all {
			fmt.Fprint(w, "\r\x1b[K")
		} else if time.Since(last) > 100*time.Millisecond {
			last = time.Now()
			left := time.Since(began).Seconds() * float64(all-done) / float64(done)
			fmt.Fprintf(w, "\r\x1b[K%s: %d %% of %s texts, %s left", name, 100*done/all, grouped(all), span(left))
		}
	}
}

// runName is the name of a suite's run file: that of several suites bears the suite's name before its ending.
func runName(file, suite string, several bool) string {
	if !several {
		return file
	}
	ext := filepath.Ext(file)
	return strings.TrimSuffix(file, ext) + "." + suite + ext
}

func writeRun(path string, run evaluate.Run, tag string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("run file: %w", err)
	}
	if err := evaluate.WriteRun(f, run, evaluate.Single, tag); err != nil {
		f.Close()
		return fmt.Errorf("run file %s: %w", path, err)
	}
	return f.Close()
}
