// Package progress shows a run's events while they happen: a live bar on a terminal, plain lines elsewhere,
// or JSON lines.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

// View is told every event, in order, from one goroutine.
type View interface {
	Event(e coordinator.Event)
	Close()
}

// Lines returns a view that writes a plain line for what matters: at most one step line per interval, and
// everything else at once.
func Lines(w io.Writer, steps int64, interval time.Duration) View {
	return &lines{w: w, rate: rate{steps: steps}, interval: interval}
}

// JSON returns a view that writes every event as one JSON line.
func JSON(w io.Writer) View { return jsonLines{json.NewEncoder(w)} }

type jsonLines struct{ enc *json.Encoder }

func (v jsonLines) Event(e coordinator.Event) { _ = v.enc.Encode(e) } // a closed pipe ends the view, not the run
func (jsonLines) Close()                      {}

type lines struct {
	w        io.Writer
	rate     rate
	interval time.Duration
	last     time.Time
}

func (v *lines) Event(e coordinator.Event) {
	if e.Kind == coordinator.StepCommitted {
		v.rate.add(e)
		if e.Time.Sub(v.last) < v.interval && e.Step != v.rate.steps {
			return
		}
		v.last = e.Time
		fmt.Fprintf(v.w, "step %d/%d  %s\n", e.Step, v.rate.steps, v.rate.status())
		return
	}
	if text := Sentence(e); text != "" {
		fmt.Fprintln(v.w, text)
	}
}

func (*lines) Close() {}

// Bar returns a view with one live bar: step, loss, gradient norm, learning rate, tokens a second, workers and
// time left; other events scroll above it. It is an io.Writer too: whatever else is to be said on the terminal
// meanwhile goes through it, or the bar would paint over it.
func Bar(w io.Writer, name string, steps int64) View {
	v := &bar{rate: rate{steps: steps}}
	v.progress = mpb.New(mpb.WithOutput(w), mpb.WithWidth(28), mpb.WithRefreshRate(150*time.Millisecond), mpb.WithAutoRefresh())
	v.bar = v.progress.New(
		steps,
		mpb.BarStyle().Lbound("▕").Filler("█").Tip("█").Padding("·").Rbound("▏"),
		mpb.PrependDecorators(decor.Name(name+" "), decor.CountersNoUnit("%d/%d")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.rate.status()
		})),
	)
	return v
}

type bar struct {
	progress *mpb.Progress
	bar      *mpb.Bar

	mu   sync.Mutex
	rate rate
}

func (v *bar) Event(e coordinator.Event) {
	if e.Kind == coordinator.StepCommitted {
		v.mu.Lock()
		v.rate.add(e)
		v.mu.Unlock()
		v.bar.SetCurrent(e.Step)
		return
	}
	if text := Sentence(e); text != "" {
		_, _ = io.WriteString(v.progress, text+"\n")
	}
}

// Write puts text above the bar.
func (v *bar) Write(text []byte) (int, error) { return v.progress.Write(text) }

func (v *bar) Close() {
	if !v.bar.Completed() {
		v.bar.Abort(false)
	}
	v.progress.Wait()
}

// rate smooths speed over the last steps and predicts the end.
type rate struct {
	steps   int64
	last    coordinator.Event
	seconds []float64 // of the last steps
	tokens  []int64
}

func (r *rate) add(e coordinator.Event) {
	r.last = e
	r.seconds, r.tokens = append(r.seconds, e.Seconds), append(r.tokens, e.Tokens)
	if n := len(r.seconds) - 20; n > 0 {
		r.seconds, r.tokens = r.seconds[n:], r.tokens[n:]
	}
}

func (r *rate) status() string {
	c := r.last
	if c.Kind == "" {
		return "waiting for the first step"
	}
	var seconds float64
	var tokens int64
	for i, s := range r.seconds {
		seconds += s
		tokens += r.tokens[i]
	}
	text := fmt.Sprintf("loss %.4f  norm %.3g  lr %.2e", c.Loss, c.Norm, c.Rate)
	if seconds > 0 {
		left := time.Duration(float64(r.steps-r.last.Step) * seconds / float64(len(r.seconds)) * float64(time.Second))
		text += fmt.Sprintf("  %s tok/s  %s  ETA %s", thousands(int64(math.Round(float64(tokens)/seconds))), plural(r.last.Workers, "worker"), left.Round(time.Second))
	}
	if r.last.Replayed {
		text += "  (executed again)"
	}
	return text
}

// shown are the metrics that a line has room for.
var shown = []string{"ndcg@10", "r@1", "mrr@10", "p-mrr", "accuracy", "v_measure", "max_ap", "cosine_spearman"}

// Sentence tells an event in one line; "" for those that need none.
func Sentence(e coordinator.Event) string {
	detail := e.Detail()
	if detail != "" {
		detail = ": " + detail
	}
	switch e.Kind {
	case coordinator.StateChanged:
		return fmt.Sprintf("run is %s%s", e.State, detail)
	case coordinator.SuiteEvaluated:
		names := make([]string, 0, len(e.Metrics))
		for n := range e.Metrics {
			names = append(names, n)
		}
		sort.Strings(names)
		var parts []string
		for _, n := range names {
			if slices.Contains(shown, n) || len(names) < 4 {
				parts = append(parts, fmt.Sprintf("%s %.4f", n, e.Metrics[n]))
			}
		}
		return fmt.Sprintf("evaluated %s after step %d: %s", e.Suite, e.Step, strings.Join(parts, "  "))
	case coordinator.CheckpointSaved:
		return fmt.Sprintf("checkpoint of step %d: %s", e.Step, e.Path)
	case coordinator.CheckpointFailed:
		return fmt.Sprintf("WARNING: the checkpoint of step %d was not written%s", e.Step, detail)
	case coordinator.WorkerJoined:
		return fmt.Sprintf("worker %s joined%s", e.Worker, detail)
	case coordinator.WorkerReady:
		return fmt.Sprintf("worker %s takes shards%s", e.Worker, detail)
	case coordinator.CheckpointGone:
		if why, damaged := e.Damaged(); damaged {
			return fmt.Sprintf("WARNING: the checkpoint of step %d is damaged and left out: %s", e.Step, why)
		}
	case coordinator.WorkerLost:
		if why, drained := e.Drained(); drained {
			return fmt.Sprintf("worker %s left: %s", e.Worker, why)
		}
		return fmt.Sprintf("worker %s is lost%s", e.Worker, detail)
	case coordinator.AttemptRepeated:
		return fmt.Sprintf("step %d repeats with wider exponents%s", e.Step+1, detail)
	case coordinator.Restarted:
		if e.Path == "" {
			return "restarted from the initial parameters: there is no sound checkpoint"
		}
		return fmt.Sprintf("restarted from the checkpoint of step %d%s", e.Step, detail)
	case coordinator.Rewound:
		return fmt.Sprintf("WARNING: the steps after step %d are taken back and executed anew: %s", e.Step, e.Reason)
	case coordinator.Recovered:
		return fmt.Sprintf("recovered from the loss of %s%s", e.Worker, detail)
	case coordinator.Warning:
		return "WARNING" + detail
	}
	return ""
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// thousands writes 12345 as 12,345.
func thousands(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
