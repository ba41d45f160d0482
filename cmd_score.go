package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// scoring is what the flags of score say.
type scoring struct {
	evaluate.Evaluation
	run, qrels         string
	measures           []string
	queries, noSummary bool
	scores             string
	writeRun, writeRel string
}

func scoreCommand() *cobra.Command {
	var s scoring
	cmd := &cobra.Command{
		Use:   "score [QRELS RUN]",
		Short: "Score a run file against judgments, as trec_eval does",
		Long: `Files are in TREC's form or in BEIR's (tabs under a header, or JSON of queries and documents), gzipped or not; "-" is standard
input. Measures, their order, the rounding and the options -q -m -c -n -l -M -J -N are those of trec_eval. Documents are
ordered by score, and where scores tie by id, the greater first; ranks in the file are ignored. Scores are compared in
float32, as trec_eval up to 9.0.8, pytrec_eval and so most published numbers do; --scores float64 is trec_eval 10.0.`,
		Example: `  counterpoint score --run run.txt --qrels qrels.txt
  counterpoint score qrels.txt run.txt -m map -m ndcg_cut.10 -m recall.100 -q
  counterpoint score --run run.json.gz --qrels test.tsv -c -m all_trec
  counterpoint score --run run.trec --qrels qrels.txt --write-run run.json --write-qrels test.tsv`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return s.command(cmd, args) },
	}
	f := cmd.Flags()
	f.StringVar(&s.run, "run", "", "the run file")
	f.StringVar(&s.qrels, "qrels", "", "the judgments")
	f.StringArrayVarP(&s.measures, "measure", "m", []string{"official"}, "a measure, perhaps with parameters (ndcg_cut.5,10), or official, set, all_trec; may be repeated")
	f.BoolVarP(&s.queries, "query", "q", false, "also each query's values")
	f.BoolVarP(&s.noSummary, "nosummary", "n", false, "no summary")
	f.BoolVarP(&s.Complete, "complete", "c", false, "judged queries that are not in the run count as 0")
	f.IntVarP(&s.Level, "level", "l", 1, "least grade of a relevant document")
	f.IntVarP(&s.Depth, "max-retrieved", "M", 0, "documents of a query; 0 for all")
	f.BoolVarP(&s.JudgedOnly, "judged-only", "J", false, "leave documents without a judgment out of the ranking")
	f.IntVarP(&s.Documents, "documents", "N", 0, "documents of the collection, for utility")
	f.StringVar(&s.scores, "scores", "float32", "float32 or float64: how scores are compared")
	f.StringVar(&s.writeRun, "write-run", "", "also write the run, ranked: .json, .tsv, else TREC's form; .gz")
	f.StringVar(&s.writeRel, "write-qrels", "", "also write the judgments: .json, .tsv, else TREC's form; .gz")
	return cmd
}

func (s *scoring) command(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 2 && s.run == "" && s.qrels == "":
		s.qrels, s.run = args[0], args[1]
	case len(args) > 0:
		return fmt.Errorf("QRELS and RUN are needed, in this order, or --qrels and --run: %s", cmd.UseLine())
	case s.run == "":
		return fmt.Errorf("--run is missing: %s", cmd.UseLine())
	case s.qrels == "":
		return fmt.Errorf("--qrels is missing: %s", cmd.UseLine())
	}
	switch s.scores {
	case "float32":
	case "float64":
		s.Precision = evaluate.Double
	default:
		return fmt.Errorf("--scores %q: float32 or float64 is allowed", s.scores)
	}
	if s.Level < 1 || s.Depth < 0 || s.Documents < 0 {
		return fmt.Errorf("--level %d, --max-retrieved %d, --documents %d: a level from 1 and numbers from 0 are allowed", s.Level, s.Depth, s.Documents)
	}
	measures, err := s.ParseMeasures(s.measures...)
	if err != nil {
		return err
	}
	qrels, err := evaluate.OpenJudgments(s.qrels)
	if err != nil {
		return err
	}
	run, tag, err := evaluate.OpenRun(s.run)
	if err != nil {
		return err
	}
	report := s.Score(run, qrels, measures)
	if len(report.Queries) == 0 {
		return fmt.Errorf("%s: none of its %s is judged in %s", s.run, plural(len(run), "query", "queries"), s.qrels)
	}
	if s.writeRun != "" {
		if err := evaluate.WriteRunFile(s.writeRun, run, s.Precision, tag); err != nil {
			return err
		}
	}
	if s.writeRel != "" {
		if err := evaluate.WriteJudgmentsFile(s.writeRel, qrels); err != nil {
			return err
		}
	}
	return report.Write(cmd.OutOrStdout(), tag, s.queries, !s.noSummary)
}
