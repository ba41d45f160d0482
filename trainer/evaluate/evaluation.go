package evaluate

import (
	"bufio"
	"fmt"
	"io"
	"math"

	"github.com/counterpoint-ml/counterpoint/data"
)

// Evaluation says how a run meets its judgments, by trec_eval's options.
type Evaluation struct {
	Precision  Precision
	Level      int  // -l: least grade of a relevant document; 0 is 1
	Depth      int  // -M: documents of a query; 0 is all
	JudgedOnly bool // -J: documents without a grade of 0 or above are taken out of the ranking
	Complete   bool // -c: judged queries that are not in the run count as 0
	Documents  int  // -N: of the collection, for utility
}

// ParseMeasures is ParseMeasures, with the all_trec of the trec_eval that has this precision.
func (e Evaluation) ParseMeasures(names ...string) ([]Measure, error) {
	return parseMeasures(names, e.Precision)
}

// Report is what a run scores.
type Report struct {
	Measures []Measure
	Queries  []string    // those in the run and the judgments, in order
	Values   [][]float64 // of each query, by measure
	strings  [][]string  // relstring of each query, by measure
	Summary  []float64   // of all queries, by measure
	Divisor  int         // the queries averaged over
}

// Score evaluates a run.
func (e Evaluation) Score(run Run, qrels data.Qrels, measures []Measure) Report {
	out := Report{Measures: measures, Summary: make([]float64, len(measures))}
	sums := make([]float64, len(measures))
	counts := make([]int, len(measures))
	for _, query := range sortedKeys(qrels) {
		hits, ok := run[query]
		if !ok {
			continue
		}
		r := e.judge(rank(hits, e.Precision), qrels[query])
		values, texts := make([]float64, len(measures)), []string(nil)
		for i, m := range measures {
			switch {
			case m.define.summary == text:
				if m.define.name == "relstring" {
					if texts == nil {
						texts = make([]string, len(measures))
					}
					texts[i] = r.letters(int(m.args[0]))
				}
				continue
			case m.define.summary == geometric:
				values[i] = m.Of(r)
				sums[i] += math.Log(max(values[i], leastGeometric))
			default:
				values[i] = m.Of(r)
				if math.IsNaN(values[i]) {
					continue // not defined for the query
				}
				sums[i] += values[i]
			}
			counts[i]++
		}
		out.Queries = append(out.Queries, query)
		out.Values = append(out.Values, values)
		out.strings = append(out.strings, texts)
	}
	out.Divisor = len(out.Queries)
	if e.Complete {
		out.Divisor = len(qrels)
	}
	for i, m := range measures {
		n := float64(counts[i])
		if e.Complete {
			n = float64(out.Divisor)
		}
		switch {
		case m.define.summary == total:
			out.Summary[i] = e.total(m, sums[i], out.Divisor, qrels)
		case n == 0 || m.define.summary == text:
		case m.define.summary == geometric:
			out.Summary[i] = math.Exp((sums[i] + float64((n-float64(counts[i]))*math.Log(leastGeometric))) / n)
		default:
			out.Summary[i] = sums[i] / n
		}
	}
	return out
}

// leastGeometric keeps one query that finds nothing from making the geometric mean 0.
const leastGeometric = 1e-5

// total is the sum of a number of things; complete counts judged queries, and their relevant documents, without the
// run's help. (There trec_eval counts every grade from 1, whatever the level: a fault that is not copied.)
func (e Evaluation) total(m Measure, sum float64, queries int, qrels data.Qrels) float64 {
	switch {
	case m.define.name == "num_q":
		return float64(queries)
	case m.define.name == "num_rel" && e.Complete:
		n := 0
		for _, judged := range qrels {
			for _, grade := range judged {
				if grade >= max(1, e.Level) {
					n++
				}
			}
		}
		return float64(n)
	}
	return sum
}

// letters shows the grades of the first n documents: 0 to 9, > for more, - without judgment and . where it is negative.
func (r Ranking) letters(n int) string {
	out := make([]byte, 0, n)
	for _, g := range r.grades[:max(0, min(n, len(r.grades)))] {
		switch {
		case g > 9:
			out = append(out, '>')
		case g >= 0:
			out = append(out, '0'+byte(g))
		case g == unjudged:
			out = append(out, '-')
		default:
			out = append(out, '.')
		}
	}
	return string(out)
}

// Write prints the report as trec_eval does: name, query (all for the summary) and value between tabs, four decimals.
func (r Report) Write(w io.Writer, runID string, queries, summary bool) error {
	out := bufio.NewWriter(w)
	line := func(name, query string, m Measure, value float64) {
		if m.Whole() {
			fmt.Fprintf(out, "%-22s\t%s\t%d\n", name, query, int64(value))
		} else {
			fmt.Fprintf(out, "%-22s\t%s\t%6.4f\n", name, query, value)
		}
	}
	for q, query := range r.Queries {
		if !queries {
			break
		}
		for i, m := range r.Measures {
			switch {
			case m.define.name == "relstring":
				fmt.Fprintf(out, "%-22s\t%s\t'%s'\n", m.Name, query, r.strings[q][i])
			case m.define.summary == text, m.define.summary == geometric, m.define.name == "num_q":
			default:
				line(m.Name, query, m, r.Values[q][i])
			}
		}
	}
	for i, m := range r.Measures {
		switch {
		case !summary || m.define.name == "relstring":
		case m.define.name == "runid":
			fmt.Fprintf(out, "%-22s\t%s\t%s\n", m.Name, "all", runID)
		default:
			line(m.Name, "all", m, r.Summary[i])
		}
	}
	return out.Flush()
}
