package report

import (
	"fmt"
	"html"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

// lane is one worker's life.
type lane struct {
	worker string
	spans  [][2]time.Time
	marks  []coordinator.Event
	open   bool
}

// marks of the timeline: colour and meaning.
var marks = map[string]string{
	coordinator.WorkerLost: "#d55e00", coordinator.WorkerReady: "#009e73", coordinator.Recovered: "#e69f00", coordinator.Warning: "#cc79a7",
}

// lanes groups the timeline by worker, in the order of their first event. A worker that never said goodbye
// was there until the end.
func (r *Record) lanes() []*lane {
	var all []*lane
	byName := map[string]*lane{}
	for _, e := range r.Timeline {
		if e.Worker == "" {
			continue
		}
		l := byName[e.Worker]
		if l == nil {
			l = &lane{worker: e.Worker}
			byName[e.Worker] = l
			all = append(all, l)
		}
		switch e.Kind {
		case coordinator.WorkerJoined:
			if !l.open {
				l.spans = append(l.spans, [2]time.Time{e.Time, r.Ended})
				l.open = true
			}
		case coordinator.WorkerLost:
			if n := len(l.spans); n > 0 && l.open {
				l.spans[n-1][1] = e.Time
				l.open = false
			}
			l.marks = append(l.marks, e)
		default:
			l.marks = append(l.marks, e)
		}
	}
	return all
}

// timeline draws one bar per worker and life, with a mark for each loss, lease and promotion.
func (r *Record) timeline() string {
	lanes := r.lanes()
	total := r.Ended.Sub(r.Started).Seconds()
	if len(lanes) == 0 || total <= 0 {
		return `<p class="none">no worker joined</p>`
	}
	const width, row, label = 1140.0, 26.0, 190.0
	height := float64(len(lanes))*row + 28
	px := func(t time.Time) float64 { return label + t.Sub(r.Started).Seconds()/total*(width-label-16) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img">`, width, height)
	for _, t := range ticks(0, total, 10) {
		x := px(r.Started.Add(time.Duration(t * float64(time.Second))))
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="0" y2="%g"/><text class="tick" text-anchor="middle" x="%.1f" y="%g">%s s</text>`, x, x, height-22, x, height-8, number(t))
	}
	for i, l := range lanes {
		y := float64(i)*row + 4
		fmt.Fprintf(&b, `<text class="name" x="0" y="%.1f">%s</text>`, y+13, html.EscapeString(short(l.worker)))
		for _, s := range l.spans {
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="17" rx="3" fill="%s" fill-opacity="0.55"/>`, px(s[0]), y, max(px(s[1])-px(s[0]), 2), palette[0])
		}
		for _, e := range l.marks {
			colour, ok := marks[e.Kind]
			if !ok {
				continue
			}
			if _, drained := e.Drained(); drained {
				continue // its bar ends, and nothing was lost
			}
			radius := 4.5
			if e.Kind == coordinator.WorkerLost {
				radius = 7 // the recovery comes a moment later and would hide it
			}
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="%g" fill="%s"><title>%s after step %d: %s</title></circle>`, px(e.Time), y+8.5, radius, colour, e.Kind, e.Step, html.EscapeString(e.Detail()))
		}
	}
	b.WriteString(`</svg><div class="legend">`)
	for _, k := range []string{coordinator.WorkerLost, coordinator.Recovered, coordinator.WorkerReady, coordinator.Warning} {
		fmt.Fprintf(&b, `<span><i style="background:%s"></i>%s</span>`, marks[k], k)
	}
	b.WriteString(`</div>`)
	return b.String()
}

// short cuts the middle out of long worker names.
func short(name string) string {
	if r := []rune(name); len(r) > 26 {
		return string(r[:14]) + "…" + string(r[len(r)-11:])
	}
	return name
}
