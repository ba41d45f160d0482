package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// Section is a table of its own, with a title and a sentence.
type Section struct {
	Title, Note string
	Rows        []Row
	Columns     []string // nil = Columns(Rows)
	Lines       [][]string
	Heads       []string // of Lines, which have words besides numbers
}

// Plot is a chart of values at named places: lengths, tasks.
type Plot struct {
	Title, XLabel string
	Names         []string  // of the places
	Series        []Figures // one value a place each
	Bars          bool      // the places have no order that a line could follow
}

// Figures are the values of one series of a Plot. NaN is left out.
type Figures struct {
	Label  string
	Values []float64
}

func (p Plot) figure() figure {
	if p.Bars {
		return figure{p.Title, template.HTML(p.bars() + legend(p.series()))} //nolint:gosec // drawn and escaped here
	}
	return figure{p.Title, template.HTML(named(p.XLabel, p.Names, p.series()) + legend(p.series()))} //nolint:gosec // drawn and escaped here
}

func (p Plot) series() []Series {
	out := make([]Series, len(p.Series))
	for i, f := range p.Series {
		out[i] = Series{Label: f.Label, Dots: true}
		for x, v := range f.Values {
			out[i].X, out[i].Y = append(out[i].X, float64(x)), append(out[i].Y, v)
		}
	}
	return out
}

// bars draws a group of horizontal bars for each name, from 0 to the largest value.
func (p Plot) bars() string {
	largest := 0.0
	for _, f := range p.Series {
		for _, v := range f.Values {
			if finite(v) {
				largest = math.Max(largest, v)
			}
		}
	}
	if largest == 0 {
		return `<p class="none">nothing was measured</p>`
	}
	const thick, space, label = 11.0, 12.0, 190.0
	group := thick*float64(len(p.Series)) + space
	height := group*float64(len(p.Names)) + 8
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img">`, chartWidth, height)
	for i, name := range p.Names {
		y := 4 + group*float64(i)
		fmt.Fprintf(&b, `<text class="name" text-anchor="end" x="%g" y="%.1f">%s</text>`, label-8, y+thick*float64(len(p.Series))/2+4, html.EscapeString(clipped(name, 28)))
		for j, f := range p.Series {
			if i >= len(f.Values) || !finite(f.Values[i]) {
				continue
			}
			v := f.Values[i]
			long := math.Max(0, v) / largest * (chartWidth - label - 60)
			at := y + thick*float64(j)
			fmt.Fprintf(&b, `<rect x="%g" y="%.1f" width="%.1f" height="%g" rx="2" fill="%s"><title>%s, %s: %.4f</title></rect><text class="tick" x="%.1f" y="%.1f">%.4f</text>`,
				label, at, long, thick-2, palette[j%len(palette)], html.EscapeString(name), html.EscapeString(f.Label), v, label+long+6, at+thick-3, v)
		}
	}
	b.WriteString(`</svg>`)
	return b.String()
}

func clipped(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
