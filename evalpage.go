package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/counterpoint-ml/counterpoint/coordinator/report"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// document is the page of one evaluation or of two side by side: tables, score by task, score by length.
func document(title, note string, names []string, results [][]evalResult) report.Document {
	doc := report.Document{Title: title, Note: note}
	var all []evalResult
	for i, r := range results {
		for j := range r {
			r[j].label = names[i]
		}
		all = append(all, r...)
	}
	for _, rows := range tables(all) {
		title, note := "Retrieval", ""
		for _, r := range all {
			if r.Excluded != "" && r.Suite == rows[0].Suite {
				note = r.Excluded + "."
			}
			if r.Suite == rows[0].Suite && r.Kind != data.BEIRTask {
				title = kindTitles[r.Kind]
			}
		}
		doc.Sections = append(doc.Sections, report.Section{Title: title, Note: note, Rows: rows})
	}
	if s, ok := longEmbed(names, results); ok {
		doc.Sections = append(doc.Sections, s)
	}
	tasks := report.Plot{Title: "Main metric by suite", Bars: true}
	for _, r := range results[0] {
		tasks.Names = append(tasks.Names, r.Suite)
	}
	for i, list := range results {
		f := report.Figures{Label: names[i]}
		for _, r := range list {
			f.Values = append(f.Values, r.Metrics[evaluate.MainScore])
		}
		tasks.Series = append(tasks.Series, f)
	}
	doc.Plots = append(doc.Plots, tasks)
	doc.Plots = append(doc.Plots, byLength(names, results)...)
	return doc
}

var kindTitles = map[string]string{
	data.STSTask: "Semantic similarity", data.PairsTask: "Pair classification", data.ClassificationTask: "Classification", data.ClusteringTask: "Clustering",
	data.BitextTask: "Bitext mining", data.SummaryTask: "Summarisation",
}

// suffix returns the length at the end of a generated suite's name: TASK-LENGTH, of the group TASK.
func suffix(r evalResult) (length int, ok bool) {
	number, ok := strings.CutPrefix(r.Suite, r.Group+"-")
	if r.Group == "" || !ok {
		return 0, false
	}
	n, err := strconv.Atoi(number)
	return n, err == nil
}

// byLength are the plots of the generated tasks: accuracy at the first place over the length of the documents.
func byLength(names []string, results [][]evalResult) []report.Plot {
	var out []report.Plot
	at := map[string]int{}
	for i, list := range results {
		for _, r := range list {
			n, ok := suffix(r)
			if !ok {
				continue
			}
			k, known := at[r.Group]
			if !known {
				k = len(out)
				at[r.Group] = k
				p := report.Plot{Title: "Accuracy by length: " + r.Group, XLabel: "tokens of a document"}
				for _, name := range names {
					p.Series = append(p.Series, report.Figures{Label: name})
				}
				out = append(out, p)
			}
			if i == 0 {
				out[k].Names = append(out[k].Names, strconv.Itoa(n))
			}
			out[k].Series[i].Values = append(out[k].Series[i].Values, r.Metrics[evaluate.MainScore])
		}
	}
	return out
}

// longEmbed is the paper's table: passkey and needle up to 4,096 tokens and beyond, the real tasks, LongEmbed's mean of
// six tasks and the paper's mean of eight columns. It is there where some generated task was evaluated.
func longEmbed(names []string, results [][]evalResult) (report.Section, bool) {
	s := report.Section{
		Title: "LongEmbed", Note: "nDCG@1 of passkey and needle by length, nDCG@10 of the others, in percent. Tasks is the mean of the six tasks (LongEmbed), columns the mean of the eight columns (as the paper prints).",
		Heads: []string{"", "passkey ≤ 4k", "passkey > 4k", "needle ≤ 4k", "needle > 4k", "narrativeqa", "qmsum", "summ_screen_fd", "2wikimqa", "tasks", "columns"},
	}
	generated := false
	for i, list := range results {
		var sums, counts [8]float64
		for _, r := range list {
			k := -1
			if n, ok := suffix(r); ok {
				generated = true
				switch {
				case strings.Contains(r.Group, "passkey"):
					k = 0
				case strings.Contains(r.Group, "needle"):
					k = 2
				}
				if k >= 0 && n > 4096 {
					k++
				}
			} else {
				for j, name := range s.Heads[5:9] {
					if strings.HasSuffix(r.Suite, name) && r.Group != "" {
						k = 4 + j
					}
				}
			}
			if k >= 0 {
				sums[k] += 100 * r.Metrics[evaluate.MainScore]
				counts[k]++
			}
		}
		mean := func(columns ...int) float64 {
			sum, n := 0.0, 0.0
			for _, k := range columns {
				sum, n = sum+sums[k], n+counts[k]
			}
			return sum / n // NaN where nothing was measured
		}
		column := make([]float64, 8)
		whole := 0.0
		for k := range column {
			column[k] = mean(k)
			whole += column[k] / 8
		}
		tasks := (mean(0, 1) + mean(2, 3) + column[4] + column[5] + column[6] + column[7]) / 6
		line := []string{names[i]}
		for _, v := range append(column, tasks, whole) {
			if math.IsNaN(v) {
				line = append(line, "–")
			} else {
				line = append(line, fmt.Sprintf("%.1f", v))
			}
		}
		s.Lines = append(s.Lines, line)
	}
	return s, generated
}
