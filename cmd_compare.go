package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/report"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// compared is one suite's line of `compare --json`.
type compared struct {
	Suite      string               `json:"suite"`
	Metric     string               `json:"metric"`
	A          float64              `json:"a"`
	B          float64              `json:"b"`
	Comparison *evaluate.Comparison `json:"comparison,omitempty"` // of tasks with queries
	Changed    []changedQuery       `json:"changed,omitempty"`
}

// changedQuery is a query that changed much, with what each model found first.
type changedQuery struct {
	Query string  `json:"query"`
	Text  string  `json:"text"`
	A     float64 `json:"a"`
	B     float64 `json:"b"`
	TopA  hit     `json:"top_a"`
	TopB  hit     `json:"top_b"`
}

type hit struct {
	Document string `json:"document"`
	Grade    *int   `json:"grade"` // nil = not judged
	Text     string `json:"text"`
}

func compareCommand() *cobra.Command {
	var e evaluation
	var seed uint64
	cmd := &cobra.Command{
		Use:   "compare A B SUITE...",
		Short: "Evaluate two models side by side: intervals of the difference, wins and losses, the queries that changed most",
		Long: `A and B are models as eval takes them, and SUITE is as eval takes it. Of a retrieval suite the difference of the main metric comes with
a 95 % interval (paired bootstrap over the queries, 10,000 resamples), the number of queries that B wins and loses, and the ten queries
that changed most, each with what the models found first. Flags about texts hold for both models; embeddings are kept as in eval.`,
		Example: `  counterpoint compare runs/a/checkpoints/step-00000100 runs/a/checkpoints/step-00000900 dev/
  counterpoint compare ./base runs/mine scifact/ mteb:STSBenchmark:stsb/test.jsonl --report compare.html`,
		Args: atLeast("A", "B", "SUITE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.given = cmd.Flags().Changed
			return e.compare(cmd, args[:2], args[2:], seed)
		},
	}
	e.modelFlags(cmd)
	f := cmd.Flags()
	f.Uint64Var(&seed, "bootstrap-seed", 42, "seed of the bootstrap")
	f.StringVar(&e.page, "report", "", "write an HTML page with tables and plots")
	f.BoolVar(&e.json, "json", false, "one JSON object")
	return cmd
}

func (e *evaluation) compare(cmd *cobra.Command, models, suites []string, seed uint64) error {
	specs, err := e.specs(suites)
	if err != nil {
		return err
	}
	dev, err := e.device()
	if err != nil {
		return err
	}
	defer dev.Close()
	var names []string
	var results [][]evalResult
	for _, path := range models {
		j, err := e.open(cmd, path, dev)
		if err != nil {
			return err
		}
		j.texts = true
		r, err := j.all(cmd.Context(), specs)
		j.close()
		if err != nil {
			return err
		}
		names, results = append(names, j.name), append(results, r)
	}
	if len(results[0]) != len(results[1]) {
		return fmt.Errorf("compare: %d suites for %s and %d for %s", len(results[0]), models[0], len(results[1]), models[1])
	}
	if names[0] == names[1] {
		names = models
	}
	var out []compared
	for i := range results[0] {
		c, err := compareSuite(&results[0][i], &results[1][i], seed)
		if err != nil {
			return err
		}
		out = append(out, c)
	}
	if e.page != "" {
		if err := writeReport(e.page, comparePage(names, results, out)); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	if e.json {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{"a": names[0], "b": names[1], "suites": out})
	}
	printComparison(cmd.OutOrStdout(), names, out)
	return nil
}

// compareSuite compares two models on one suite.
func compareSuite(a, b *evalResult, seed uint64) (compared, error) {
	c := compared{Suite: a.Suite, Metric: a.Main, A: a.Metrics[evaluate.MainScore], B: b.Metrics[evaluate.MainScore]}
	if a.run == nil {
		return c, nil
	}
	x, err := evaluate.PerQuery(&a.sheet, a.run)
	if err != nil {
		return c, err
	}
	y, err := evaluate.PerQuery(&b.sheet, b.run)
	if err != nil {
		return c, err
	}
	found, err := evaluate.Compare(x, y, seed)
	if err != nil {
		return c, err
	}
	c.Comparison = &found
	for _, q := range found.Changed {
		if math.Abs(q.A-q.B) < 1e-12 {
			continue
		}
		c.Changed = append(c.Changed, changedQuery{Query: q.Query, Text: a.text(q.Query), A: q.A, B: q.B, TopA: a.top(q.Query), TopB: b.top(q.Query)})
	}
	return c, nil
}

// top is what a query finds first.
func (r *evalResult) top(query string) hit {
	if r.Main == "p-mrr" {
		query += "-changed"
	}
	ranked := evaluate.Rank(r.run[query], evaluate.Single)
	if len(ranked) == 0 {
		return hit{}
	}
	h := hit{Document: ranked[0].Document, Text: r.text(ranked[0].Document)}
	if grade, ok := r.sheet.Qrels[query][h.Document]; ok {
		h.Grade = &grade
	}
	return h
}

// text returns the start of a query's or document's text.
func (r *evalResult) text(id string) string {
	t := r.words(id)
	if t == "" && r.Main == "p-mrr" {
		t = r.words(id + "-changed")
	}
	return shortened(strings.Join(strings.Fields(t), " "), 160)
}

func shortened(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func (h hit) String() string {
	grade := "not judged"
	if h.Grade != nil {
		grade = fmt.Sprintf("grade %d", *h.Grade)
	}
	return fmt.Sprintf("%s (%s): %s", h.Document, grade, h.Text)
}

func printComparison(w io.Writer, names []string, suites []compared) {
	fmt.Fprintf(w, "A  %s\nB  %s\n\n", names[0], names[1])
	fmt.Fprintf(w, "%-24s %-16s %8s %8s %9s  %-20s %s\n", "suite", "metric", "A", "B", "B - A", "95 % interval", "B wins / loses / ties")
	for _, c := range suites {
		fmt.Fprintf(w, "%-24s %-16s %8.4f %8.4f %+9.4f", shortened(c.Suite, 24), c.Metric, c.A, c.B, c.B-c.A)
		if x := c.Comparison; x != nil {
			fmt.Fprintf(w, "  %-20s %d / %d / %d", fmt.Sprintf("%+.4f … %+.4f", x.Low, x.High), x.Wins, x.Losses, x.Ties)
		}
		fmt.Fprintln(w)
	}
	for _, c := range suites {
		if len(c.Changed) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s: the queries whose %s changed most\n", c.Suite, c.Metric)
		for _, q := range c.Changed {
			fmt.Fprintf(w, "  %.4f -> %.4f  %s: %s\n      A  %s\n      B  %s\n", q.A, q.B, q.Query, q.Text, shortened(q.TopA.String(), 120), shortened(q.TopB.String(), 120))
		}
	}
}

// comparePage is the page of a comparison.
func comparePage(names []string, results [][]evalResult, suites []compared) report.Document {
	doc := document("Comparison", fmt.Sprintf("A: %s. B: %s. Intervals: paired bootstrap over the queries, 95 %%.", names[0], names[1]), names, results)
	differences := report.Section{Title: "Differences", Heads: []string{"suite", "metric", "A", "B", "B − A", "interval", "B wins", "loses", "ties"}}
	for _, c := range suites {
		line := []string{c.Suite, c.Metric, fmt.Sprintf("%.4f", c.A), fmt.Sprintf("%.4f", c.B), fmt.Sprintf("%+.4f", c.B-c.A)}
		if x := c.Comparison; x != nil {
			line = append(line, fmt.Sprintf("%+.4f … %+.4f", x.Low, x.High), fmt.Sprint(x.Wins), fmt.Sprint(x.Losses), fmt.Sprint(x.Ties))
		} else {
			line = append(line, "–", "–", "–", "–")
		}
		differences.Lines = append(differences.Lines, line)
	}
	doc.Sections = append([]report.Section{differences}, doc.Sections...)
	for _, c := range suites {
		if len(c.Changed) == 0 {
			continue
		}
		s := report.Section{Title: c.Suite + ": the queries that changed most", Heads: []string{"query", "A", "B", "A found first", "B found first"}}
		for _, q := range c.Changed {
			s.Lines = append(s.Lines, []string{
				shortened(q.Query+": "+q.Text, 90), fmt.Sprintf("%.4f", q.A), fmt.Sprintf("%.4f", q.B), shortened(q.TopA.String(), 70), shortened(q.TopB.String(), 70),
			})
		}
		doc.Sections = append(doc.Sections, s)
	}
	return doc
}

// words finds a text by the id of its query or document, of those that judge kept.
func (r *evalResult) words(id string) string {
	if r.lookup == nil {
		return ""
	}
	return r.lookup[id]
}

// remember keeps the texts that a comparison may show: all queries, and what each found first.
func (r *evalResult) remember(suite *data.Suite) error {
	r.lookup = map[string]string{}
	wanted := map[string]bool{}
	for query := range r.run {
		if t := r.top(query); t.Document != "" {
			wanted[t.Document] = true
		}
	}
	for i, id := range append(append([]string{}, r.sheet.Queries...), r.sheet.Documents...) {
		if i >= len(r.sheet.Queries) && !wanted[id] {
			continue
		}
		text, err := suite.Text(i)
		if err != nil {
			return err
		}
		if _, ok := r.lookup[id]; !ok || i < len(r.sheet.Queries) {
			r.lookup[id] = text
		}
	}
	return nil
}
