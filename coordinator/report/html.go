package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"sort"
	"time"
)

//go:embed report.tmpl
var page string

// Document is a report of one run or several side by side.
type Document struct {
	Title string
	Note  string // a sentence under the title
	Table []Row  // the result table; nil = the runs' own results
	Runs  []*Record

	Sections []Section // further tables, after it
	Plots    []Plot    // after the runs' curves
}

// HTML writes the report as one self-contained page: no script, no network.
func (d Document) HTML(w io.Writer) error {
	rows := d.Table
	if rows == nil {
		for _, r := range d.Runs {
			rows = append(rows, r.Results()...)
		}
	}
	t, err := template.New("report").Funcs(template.FuncMap{
		"timeline": func(r *Record) template.HTML { return template.HTML(r.timeline()) }, //nolint:gosec // drawn and escaped here
		"when":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"lasted":   func(r *Record) string { return r.Ended.Sub(r.Started).Round(100 * time.Millisecond).String() },
		"digest":   func(s string) string { return s[:min(len(s), 16)] },
		"last":     func(r *Record) *Step { return lastStep(r) },
		"fixed":    func(v float64) string { return fmt.Sprintf("%.4f", v) },
		"cell":     cell,
		"columns": func(s Section) []string {
			if s.Columns != nil {
				return s.Columns
			}
			return Columns(s.Rows)
		},
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("report template: %w", err)
	}
	return t.Execute(w, struct {
		Document
		Columns []string
		Rows    []Row
		Charts  []figure
	}{d, Columns(rows), rows, d.figures()})
}

// cell writes a row's metric; a dash where it was not measured.
func cell(r Row, metric string) string {
	if v, ok := r.Metrics[metric]; ok {
		return fmt.Sprintf("%.4f", v)
	}
	return "–"
}

// figure is a titled chart.
type figure struct {
	Title string
	SVG   template.HTML
}

// figures draws loss, learning rate, gradient norm, throughput and every suite's main metric.
func (d Document) figures() []figure {
	of := func(title, xlabel string, series []Series) figure {
		return figure{title, template.HTML(chart(xlabel, series) + legend(series))} //nolint:gosec // drawn and escaped here
	}
	line := func(value func(Step) float64) []Series {
		var all []Series
		for _, r := range d.Runs {
			s := Series{Label: r.Name}
			for _, st := range r.Steps {
				s.X, s.Y = append(s.X, float64(st.Step)), append(s.Y, value(st))
			}
			if len(s.X) > 0 {
				all = append(all, s)
			}
		}
		return all
	}
	var figures []figure
	if len(d.Runs) > 0 {
		figures = d.curves(of, line)
	}
	for _, p := range d.Plots {
		figures = append(figures, p.figure())
	}
	return figures
}

// curves are the charts over the steps of the runs.
func (d Document) curves(of func(title, xlabel string, series []Series) figure, line func(value func(Step) float64) []Series) []figure {
	figures := []figure{
		of("Loss", "step", line(func(s Step) float64 { return s.Loss })),
		of("Learning rate", "step", line(func(s Step) float64 { return s.Rate })),
		of("Gradient norm before clipping", "step", line(func(s Step) float64 { return s.Norm })),
		of("Throughput, real tokens per second", "step", smooth(line(func(s Step) float64 {
			if s.TokensPerSec == 0 {
				return math.NaN()
			}
			return s.TokensPerSec
		}))),
	}
	var scores []Series
	for _, r := range d.Runs {
		for _, suite := range r.suites() {
			s := Series{Label: r.Name + ", " + suite, Dots: true}
			for _, score := range r.Scores {
				v, ok := score.Metrics["main_score"]
				if !ok {
					v, ok = score.Metrics["ndcg@10"]
				}
				if ok && score.Suite == suite {
					s.X, s.Y = append(s.X, float64(score.Step)), append(s.Y, v)
				}
			}
			scores = append(scores, s)
		}
	}
	return append(figures, of("Evaluation, each suite's main metric", "step", scores))
}

// smooth takes the running median of five, so that one slow step does not hide the rest.
func smooth(series []Series) []Series {
	for i, s := range series {
		y := make([]float64, len(s.Y))
		for j := range s.Y {
			var window []float64
			for _, v := range s.Y[max(0, j-2):min(len(s.Y), j+3)] {
				if finite(v) {
					window = append(window, v)
				}
			}
			sort.Float64s(window)
			y[j] = math.NaN()
			if len(window) > 0 {
				y[j] = window[len(window)/2]
			}
		}
		series[i].Y = y
	}
	return series
}

func lastStep(r *Record) *Step {
	if len(r.Steps) == 0 {
		return nil
	}
	return &r.Steps[len(r.Steps)-1]
}
