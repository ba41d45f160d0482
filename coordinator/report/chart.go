package report

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Series is one line of a chart. NaN and infinite values are left out.
type Series struct {
	Label string
	X, Y  []float64
	Dots  bool // mark the points: few and far between
}

// palette is colour-blind safe (Okabe and Ito 2008) and readable on light and dark paper.
var palette = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"}

const (
	chartWidth, chartHeight          = 560.0, 250.0
	left, right, top, bottom float64 = 58, 14, 12, 34
)

// chart draws series as an SVG line chart with round ticks.
func chart(xlabel string, series []Series) string { return named(xlabel, nil, series) }

// named is chart with names where x is 0, 1, 2 and so on.
func named(xlabel string, names []string, series []Series) string {
	x0, x1, y0, y1 := bounds(series)
	if x0 > x1 {
		return `<p class="none">nothing was measured</p>`
	}
	if x0 == x1 {
		x0, x1 = x0-0.5, x1+0.5
	}
	pad := (y1 - y0) * 0.06
	if pad == 0 {
		pad = math.Max(math.Abs(y1)*0.1, 1e-9)
	}
	low := y0
	y0, y1 = y0-pad, y1+pad
	if low >= 0 && y0 < 0 {
		y0 = 0
	}
	px := func(x float64) float64 { return left + (x-x0)/(x1-x0)*(chartWidth-left-right) }
	py := func(y float64) float64 { return chartHeight - bottom - (y-y0)/(y1-y0)*(chartHeight-top-bottom) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img">`, chartWidth, chartHeight)
	for _, t := range ticks(y0, y1, 5) {
		fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="tick" text-anchor="end" x="%g" y="%.1f">%s</text>`,
			left, chartWidth-right, py(t), py(t), left-7, py(t)+3.5, number(t))
	}
	for i, name := range names {
		fmt.Fprintf(&b, `<text class="tick" text-anchor="middle" x="%.1f" y="%g">%s</text>`, px(float64(i)), chartHeight-bottom+16, html.EscapeString(name))
	}
	if names == nil {
		for _, t := range ticks(x0, x1, 8) {
			fmt.Fprintf(&b, `<text class="tick" text-anchor="middle" x="%.1f" y="%g">%s</text>`, px(t), chartHeight-bottom+16, number(t))
		}
	}
	fmt.Fprintf(&b, `<text class="tick" text-anchor="end" x="%g" y="%g">%s</text>`, chartWidth-right, chartHeight-3, html.EscapeString(xlabel))
	for i, s := range series {
		colour := palette[i%len(palette)]
		var points []string
		for j := range s.X {
			if !finite(s.Y[j]) {
				continue
			}
			points = append(points, fmt.Sprintf("%.1f,%.1f", px(s.X[j]), py(s.Y[j])))
		}
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.6" stroke-linejoin="round" points="%s"/>`, colour, strings.Join(points, " "))
		if !s.Dots && len(points) > 1 {
			continue
		}
		for j := range s.X {
			if finite(s.Y[j]) {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.2" fill="%s"><title>%s: %s at %s</title></circle>`,
					px(s.X[j]), py(s.Y[j]), colour, html.EscapeString(s.Label), number(s.Y[j]), number(s.X[j]))
			}
		}
	}
	b.WriteString(`</svg>`)
	return b.String()
}

// legend names the series of a chart; one series needs none.
func legend(series []Series) string {
	if len(series) < 2 {
		return ""
	}
	var b strings.Builder
	b.WriteString(`<div class="legend">`)
	for i, s := range series {
		fmt.Fprintf(&b, `<span><i style="background:%s"></i>%s</span>`, palette[i%len(palette)], html.EscapeString(s.Label))
	}
	b.WriteString(`</div>`)
	return b.String()
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func bounds(series []Series) (x0, x1, y0, y1 float64) {
	x0, y0, x1, y1 = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, s := range series {
		for i := range s.X {
			if finite(s.Y[i]) {
				x0, x1 = math.Min(x0, s.X[i]), math.Max(x1, s.X[i])
				y0, y1 = math.Min(y0, s.Y[i]), math.Max(y1, s.Y[i])
			}
		}
	}
	return x0, x1, y0, y1
}

// ticks returns about n round values within [lo, hi]: multiples of 1, 2 or 5 times a power of ten.
func ticks(lo, hi float64, n int) []float64 {
	raw := (hi - lo) / float64(n)
	base := math.Pow(10, math.Floor(math.Log10(raw)))
	step := base * 10
	for _, m := range []float64{1, 2, 5} {
		if base*m >= raw {
			step = base * m
			break
		}
	}
	var ts []float64
	for i := math.Ceil(lo / step); i*step <= hi+step*1e-9; i++ {
		ts = append(ts, i*step)
	}
	return ts
}

// number writes a value briefly: 12.5k, 0.0304, 1e-05.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a < 1e-12:
		return "0"
	case a >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + "M"
	case a >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + "k"
	case a < 1e-3:
		return strconv.FormatFloat(v, 'e', 1, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
