package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator/report"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// evaluation is what the flags of eval say.
type evaluation struct {
	encode.Options
	rounding
	suite           evaluate.Suite // what the flags say of every suite
	query, document string         // instructions
	template        string         // how they are written
	given           func(flag string) bool
	runFile, page   string
	results         string
	modelName       string
	revision        string
	language        string
	threads         int
	json            bool
	again           bool
	texts           bool // keep texts of what is found, to show them
}

// evalResult is one suite's line of `eval --json`.
type evalResult struct {
	Suite     string             `json:"suite"`
	Group     string             `json:"group,omitempty"`
	Kind      string             `json:"kind"`
	Task      string             `json:"task,omitempty"` // mteb's name
	Main      string             `json:"main"`
	Texts     int                `json:"texts"`
	Queries   int                `json:"queries,omitempty"`
	Documents int                `json:"documents,omitempty"`
	Tokens    int64              `json:"tokens"`
	Truncated int                `json:"truncated"`
	Kept      int                `json:"kept"` // embeddings that an earlier evaluation left
	Seconds   float64            `json:"seconds"`
	Query     string             `json:"query_prompt"`
	Document  string             `json:"document_prompt"`
	QueryOf   string             `json:"query_prompt_of"` // who says it: flag, task, model, or nobody
	DocOf     string             `json:"document_prompt_of"`
	Excluded  string             `json:"excluded,omitempty"` // what is done with excluded documents
	Metrics   map[string]float64 `json:"metrics"`
	BM25      map[string]float64 `json:"bm25,omitempty"`
	Random    map[string]float64 `json:"random,omitempty"`

	sheet  data.Sheet
	run    evaluate.Run      // of retrieval
	digest string            // of the suite
	label  string            // of the model, in tables
	lookup map[string]string // texts by id, for comparisons
}

func evalCommand() *cobra.Command {
	var e evaluation
	cmd := &cobra.Command{
		Use:   "eval CHECKPOINT SUITE...",
		Short: "Evaluate a checkpoint, or a Hugging Face, PEFT or sentence-transformers folder, on benchmarks, beside BM25",
		Long: `CHECKPOINT is a checkpoint, a folder of checkpoints or of a run (its newest sound one), a Hugging Face folder, a PEFT adapter over
a base on this machine, or a sentence-transformers folder. SUITE is one of

  FOLDER, beir:FOLDER         corpus, queries and qrels/*.tsv
  sts:FILE, pairs:FILE        {sentence1, sentence2, score} and {sentence1, sentence2, label}
  classification:FOLDER       train and test rows {text, label}
  clustering:FILE             {sentences, labels}
  rerank:FILE, bitext:FILE    {query, positive, negative} and {sentence1, sentence2}
  summarization:FILE          {human_summaries, machine_summaries, relevance}
  followir:FOLDER             corpus, queries, instruction, qrel_diff, top_ranked and judgments
  bright:FOLDER               examples and documents, of one set or of several
  longembed:passkey, :needle  generated for the model's tokenizer, a suite for each of --lengths; longembed:FOLDER for the real tasks
  mteb:TASK:PATH              a local copy of one of mteb's tasks, with the task's instruction

Files are JSON lines, plain or gzip, or Parquet. Texts are written, cut and pooled as the checkpoint's run did, or as the folder says
(its prompts query and document); flags say otherwise. Of a model that says nothing: no instructions, 512 tokens, mean pooling, its
own attention. Embeddings are kept, so an unchanged model does not embed an unchanged text twice (--fresh: it does).`,
		Example: `  counterpoint eval runs/tiny-diffusion configs/quickstart/dev
  counterpoint eval runs/debian/checkpoints/step-00000100 dev/ --attention causal
  counterpoint eval ./qwen2.5-0.5b scifact/ --pooling last_token --instruction "Find the evidence" --run scifact.trec
  counterpoint eval ./model longembed:passkey --lengths 256,1024,4096 --max-length 4096 --report passkey.html
  counterpoint eval ./model mteb:STSBenchmark:stsb/test.parquet mteb:SciFact:scifact/ --results results/`,
		Args: atLeast("CHECKPOINT", "SUITE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.given = cmd.Flags().Changed
			return e.command(cmd, args[0], args[1:])
		},
	}
	e.modelFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&e.runFile, "run", "", "write what was retrieved as a TREC run file; of several suites with the suite's name before its ending")
	f.StringVar(&e.results, "results", "", "folder for results/MODEL/REVISION/TASK.json as mteb writes them")
	f.StringVar(&e.modelName, "model-name", "", "the model's name in results, such as me/model; default its folder's")
	f.StringVar(&e.revision, "revision", "", "the model's revision in results; default its digest")
	f.StringVar(&e.language, "language", "eng-Latn", "language of the texts in results")
	f.StringVar(&e.page, "report", "", "write an HTML page with tables and plots")
	f.BoolVar(&e.json, "json", false, "one JSON object")
	return cmd
}

// modelFlags are the flags about the model and its texts, which compare has too.
func (e *evaluation) modelFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&e.Dimensions, "dimensions", 0, "leading dimensions of an embedding that are kept, normalised again (loss.matryoshka); default all")
	f.StringVar(&e.Pooling, "pooling", "", "mean, weighted_mean, last_token or first_token")
	f.StringVar(&e.Attention, "attention", "", "causal or bidirectional")
	f.StringVar(&e.Base, "base", "", "folder of the model that an adapter was trained on, if it has moved")
	f.StringVar(&e.query, "instruction", "", "put before queries, and before every text where both sides are alike; \"\" for none")
	f.StringVar(&e.document, "document-instruction", "", "put before documents; \"\" for none")
	f.StringVar(&e.template, "template", "{}: ", `how an instruction is written: {} is the instruction and \n a new line, such as "Instruct: {}\nQuery: "`)
	f.IntVar(&e.MaxLength, "max-length", 0, "tokens of a text, instruction included")
	f.IntVar(&e.suite.MaxQuery, "max-query-length", 0, "tokens of a query; default as of a text")
	f.StringVar(&e.suite.Split, "split", "", "qrels/SPLIT.tsv, or the part of a folder; needed if there are several")
	f.StringVar(&e.suite.Main, "metric", "", "the metric that stands for a suite; default the task's own")
	f.IntSliceVar(&e.suite.Lengths, "lengths", nil, "longembed:passkey, longembed:needle: tokens of the documents; default 256 doubled up to 32768")
	f.Uint64Var(&e.suite.Seed, "seed", 0, "longembed:passkey, longembed:needle: seed of the documents")
	f.StringVar(&e.suite.Filler, "filler", "", "longembed:passkey, longembed:needle: text file whose sentences fill the documents")
	f.BoolVar(&e.suite.Long, "long", false, "bright: rank the long documents")
	f.StringVar(&e.suite.Excluded, "excluded", "", "bright: what becomes of the documents that a query excludes: remove (default: BRIGHT's own rule and mteb's v1.1), zero (score 0 after the cut: DiffEmbed) or keep (mteb's first)")
	f.BoolVar(&e.suite.Identical, "ignore-identical", false, "BEIR layout: a query does not find the document with its id; mteb:ArguAna, FiQA2018 and QuoraRetrieval always do so")
	f.IntVar(&e.threads, "threads", 0, "threads; default all cores")
	e.rounding.flags(f)
	f.BoolVar(&e.again, "fresh", false, "embed every text again")
}

func (e *evaluation) command(cmd *cobra.Command, checkpoint string, suites []string) error {
	out := cmd.OutOrStdout()
	specs, err := e.specs(suites)
	if err != nil {
		return err
	}
	dev, err := e.device()
	if err != nil {
		return err
	}
	defer dev.Close()
	j, err := e.open(cmd, checkpoint, dev)
	if err != nil {
		return err
	}
	defer j.close()
	results, err := j.all(cmd.Context(), specs)
	if err != nil {
		return err
	}
	if err := e.write(j, results); err != nil {
		return err
	}
	if e.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{
			"checkpoint": j.model.Dir, "name": j.name, "kind": j.model.Kind, "pooling": j.model.Pooling, "attention": attention(j.model),
			"max_length": j.model.MaxLength, "suites": results, "groups": groups(results),
		})
	}
	e.print(out, j, results)
	return nil
}

// specs reads the suites of the command line.
func (e *evaluation) specs(suites []string) ([]evaluate.Suite, error) {
	if e.MaxLength < 0 || e.threads < 0 || e.suite.MaxQuery < 0 {
		return nil, fmt.Errorf("--max-length %d, --max-query-length %d, --threads %d: negative", e.MaxLength, e.suite.MaxQuery, e.threads)
	}
	if x := e.suite.Excluded; x != "" && x != "remove" && x != "zero" && x != "keep" {
		return nil, fmt.Errorf("--excluded %q: remove, zero and keep are allowed", x)
	}
	if !strings.Contains(e.template, "{}") {
		return nil, fmt.Errorf("--template %q: {} is missing, which stands for the instruction", e.template)
	}
	var out []evaluate.Suite
	for _, spec := range suites {
		s, err := configs.ParseSuite(spec)
		if err != nil {
			return nil, err
		}
		s.MaxQuery, s.Lengths, s.Seed, s.Filler, s.Long, s.Excluded = e.suite.MaxQuery, e.suite.Lengths, e.suite.Seed, e.suite.Filler, e.suite.Long, e.suite.Excluded
		s.Identical = s.Identical || e.suite.Identical && s.Task == data.BEIRTask
		if e.suite.Split != "" {
			s.Split = e.suite.Split
		}
		if e.suite.Main != "" {
			s.Main = e.suite.Main
		}
		out = append(out, s)
	}
	return out, nil
}

// write leaves what the flags ask for beside the table.
func (e *evaluation) write(j *judge, results []evalResult) error {
	if e.runFile != "" {
		retrieved := 0
		for _, r := range results {
			if r.run != nil {
				retrieved++
			}
		}
		if retrieved == 0 {
			return fmt.Errorf("--run %s: no suite is a retrieval task", e.runFile)
		}
		for _, r := range results {
			if r.run == nil {
				continue
			}
			if err := evaluate.WriteRunFile(runName(e.runFile, r.Suite, retrieved > 1), r.run, evaluate.Single, "counterpoint"); err != nil {
				return err
			}
		}
	}
	if e.results != "" {
		folder, err := j.results(e.results, results)
		if err != nil {
			return err
		}
		fmt.Fprintf(j.stderr, "results in %s\n", relative(folder))
	}
	if e.page == "" {
		return nil
	}
	note := fmt.Sprintf("%s, at most %d tokens a text.", relative(j.model.Dir), j.model.MaxLength)
	if err := writeReport(e.page, document(j.name, note, []string{j.name}, [][]evalResult{results})); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func (e *evaluation) print(out io.Writer, j *judge, results []evalResult) {
	fmt.Fprintf(out, "%s (%s), at most %d tokens\n\n", j.name, relative(j.model.Dir), j.model.MaxLength)
	for i := range results {
		results[i].label = j.name
	}
	for _, rows := range tables(results) {
		fmt.Fprintf(out, "%s\n", report.Table(rows, nil))
	}
	for _, g := range groups(results) {
		fmt.Fprintf(out, "%s: mean of %s %.4f\n", g.Name, plural(g.Suites, "suite", "suites"), g.Score)
	}
	written := func(prompt, of string) string {
		of = map[string]string{"flag": "as asked", "task": "mteb's for the task", "model": "the model's own", "nobody": "neither task nor model has an instruction"}[of]
		if prompt == "" {
			return fmt.Sprintf("as they are (%s)", of)
		}
		return fmt.Sprintf("after %q (%s)", prompt, of)
	}
	for _, r := range results {
		texts := plural(r.Texts, "text", "texts") + " " + written(r.Query, r.QueryOf)
		if r.Kind == data.BEIRTask {
			texts = fmt.Sprintf("%s queries %s, %s documents %s", grouped(r.Queries), written(r.Query, r.QueryOf), grouped(r.Documents), written(r.Document, r.DocOf))
		}
		if r.Excluded != "" {
			texts += "; " + r.Excluded
		}
		limit := grouped(j.model.MaxLength)
		if n := j.suite.MaxQuery; n > 0 && r.Queries > 0 {
			limit += fmt.Sprintf(" (queries %s)", grouped(n))
		}
		kept := ""
		if r.Kept > 0 {
			kept = fmt.Sprintf(", %s embedded before", grouped(r.Kept))
		}
		fmt.Fprintf(out, "%s: %s, %s tokens in %s (%s tokens/s)%s; %s longer than %s tokens and cut\n", r.Suite, texts, count(r.Tokens), span(r.Seconds),
			count(int64(float64(r.Tokens)/r.Seconds)), kept, plural(r.Truncated, "text was", "texts were"), limit)
	}
}

// tables parts the rows of the results by kind, so that each table has its own columns; suites in their order, and of
// each what anybody gets before what the models get.
func tables(results []evalResult) [][]report.Row {
	var kinds, suites []string
	rows, rank := map[string][]report.Row{}, map[string]int{}
	for _, r := range results {
		kind := r.Kind
		if r.Main == "p-mrr" {
			kind = data.FollowIRTask
		}
		if rows[kind] == nil {
			kinds = append(kinds, kind)
		}
		_, again := rank[r.Suite]
		if !again {
			rank[r.Suite] = len(suites)
			suites = append(suites, r.Suite)
			for _, x := range []struct {
				label   string
				metrics map[string]float64
			}{{"random vectors", r.Random}, {"BM25 (k1 0.9, b 0.4)", r.BM25}} {
				if x.metrics != nil {
					rows[kind] = append(rows[kind], report.Row{Label: x.label, Suite: r.Suite, Metrics: x.metrics})
				}
			}
		}
		rows[kind] = append(rows[kind], report.Row{Label: r.label, Suite: r.Suite, Metrics: r.Metrics})
	}
	var out [][]report.Row
	for _, k := range kinds {
		slices.SortStableFunc(rows[k], func(a, b report.Row) int { return rank[a.Suite] - rank[b.Suite] })
		out = append(out, rows[k])
	}
	return out
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
