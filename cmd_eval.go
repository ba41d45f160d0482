package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/report"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// evaluation is what the flags of eval say.
type evaluation struct {
	embedderOptions
	query, document       string
	querySet, documentSet bool // given, perhaps as ""
	maxLength             int
	split, runFile        string
	threads               int
	json                  bool
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
		Short: "Evaluate a checkpoint or any Hugging Face folder on retrieval sets in BEIR layout, with BM25 beside it",
		Long: `CHECKPOINT is a checkpoint, a folder of checkpoints or of a run (its newest sound one), or the folder of a Hugging Face model.
SUITE is a folder with corpus.jsonl[.gz], queries.jsonl[.gz] and qrels/*.tsv. Texts are written, cut and pooled as the checkpoint's
run did; flags say otherwise. Of a foreign model: no instructions, 512 tokens, mean pooling, its own attention.`,
		Example: `  counterpoint eval runs/tiny-diffusion configs/quickstart/dev
  counterpoint eval runs/debian/checkpoints/step-00000100 dev/ --attention causal
  counterpoint eval ./qwen2.5-0.5b scifact/ --pooling last_token --instruction "Find the evidence" --run scifact.trec`,
		Args: atLeast("CHECKPOINT", "SUITE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.querySet, e.documentSet = cmd.Flags().Changed("instruction"), cmd.Flags().Changed("document-instruction")
			return e.command(cmd, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.pooling, "pooling", "", "mean, weighted_mean, last_token or first_token")
	f.StringVar(&e.attention, "attention", "", "causal or bidirectional")
	f.StringVar(&e.base, "base", "", "folder of the model that an adapter was trained on, if it has moved")
	f.StringVar(&e.query, "instruction", "", "put before queries; \"\" for none")
	f.StringVar(&e.document, "document-instruction", "", "put before documents; \"\" for none")
	f.IntVar(&e.maxLength, "max-length", 0, "tokens of a text, instruction included")
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
	if e.maxLength < 0 || e.threads < 0 {
		return fmt.Errorf("--max-length %d, --threads %d: negative", e.maxLength, e.threads)
	}
	if e.threads == 0 {
		e.threads = runtime.GOMAXPROCS(0)
	}
	dev, err := cpu.New(e.threads)
	if err != nil {
		return err
	}
	defer dev.Close()
	model, err := openEmbedder(cmd.Context(), checkpoint, dev, e.embedderOptions, log)
	if err != nil {
		return err
	}
	defer model.Free()
	e.fill(model)
	var results []evalResult
	var rows []report.Row
	for _, path := range suites {
		r, err := e.suite(cmd, model, path, len(suites) > 1, log)
		if err != nil {
			return err
		}
		results = append(results, r)
		rows = append(rows,
			report.Row{Label: "BM25 (reference)", Suite: r.Suite, Metrics: r.BM25},
			report.Row{Label: model.name, Suite: r.Suite, Metrics: r.Metrics})
	}
	if e.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{
			"checkpoint": model.folder, "name": model.name, "pooling": model.config.Pooling, "attention": model.config.Attention,
			"instruction": e.query, "document_instruction": e.document, "max_length": e.maxLength, "suites": results,
		})
	}
	e.print(out, model, rows, results)
	return nil
}

// fill takes what the flags leave open from the checkpoint.
func (e *evaluation) fill(model *embedder) {
	if !e.querySet {
		e.query = model.prompt.Query
	}
	if !e.documentSet {
		e.document = model.prompt.Document
	}
	if e.maxLength == 0 {
		e.maxLength = model.prompt.MaxLength
	}
}

// suite evaluates the model on one suite.
func (e *evaluation) suite(cmd *cobra.Command, model *embedder, path string, several bool, log *slog.Logger) (evalResult, error) {
	config := data.SuiteConfig{Path: path, Split: e.split, Instruction: e.query, Document: e.document, MaxLength: e.maxLength}
	suite, err := data.OpenSuite(config, model.tok, "", log)
	if err != nil {
		return evalResult{}, err
	}
	defer suite.Close()
	r := evalResult{Suite: suite.Name, Queries: len(suite.Queries), Documents: len(suite.Documents), Truncated: suite.Truncated()}
	began := time.Now()
	rows, err := model.embedSuite(cmd.Context(), suite, ticker(cmd.ErrOrStderr(), suite.Name))
	if err != nil {
		return r, err
	}
	r.Seconds = time.Since(began).Seconds()
	for _, n := range suite.Header().Tokens {
		r.Tokens += int64(n)
	}
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

func (e *evaluation) print(out io.Writer, model *embedder, rows []report.Row, results []evalResult) {
	fmt.Fprintf(out, "%s (%s)\n", model.name, relative(model.folder))
	written := func(prompt string) string {
		if prompt == "" {
			return "as they are"
		}
		return fmt.Sprintf("after %q", prompt)
	}
	fmt.Fprintf(out, "queries %s, documents %s, at most %d tokens\n\n%s\n", written(e.query), written(e.document), e.maxLength, report.Table(rows, nil))
	for _, r := range results {
		fmt.Fprintf(out, "%s: %s queries, %s documents, %s tokens in %s (%s tokens/s); %s longer than %s tokens and cut\n", r.Suite,
			grouped(r.Queries), grouped(r.Documents), count(r.Tokens), span(r.Seconds), count(int64(float64(r.Tokens)/r.Seconds)),
			plural(r.Truncated, "text was", "texts were"), grouped(e.maxLength))
	}
}

// ticker shows progress on a terminal, and nothing elsewhere.
func ticker(w io.Writer, name string) func(done, all int64) {
	if !terminal(w) {
		return func(int64, int64) {}
	}
	var last time.Time
	began := time.Now()
	return func(done, all int64) {
		if done == all {
			fmt.Fprint(w, "\r\x1b[K")
		} else if time.Since(last) > 100*time.Millisecond {
			last = time.Now()
			left := time.Since(began).Seconds() * float64(all-done) / float64(done)
			fmt.Fprintf(w, "\r\x1b[K%s: %d %% of %s tokens, %s left", name, 100*done/all, count(all), span(left))
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
