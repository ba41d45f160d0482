package worker

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/trainer"
)

// A copy is of the parameters as they were when it was begun, whatever the step after it does; two who want one share it.
func TestSnapshotIsOfItsStep(t *testing.T) {
	toy := newToy()
	j := &job{trainer: toy, digest: "d", log: testLog()}
	want := toy.State()
	s := j.snapshot()
	if again := j.snapshot(); again != s {
		t.Error("a second copy of the same parameters is another one")
	}
	j.settle()
	changed := toy.State()
	for i := range changed.Parameters {
		changed.Parameters[i]++
	}
	changed.Step = 1
	if err := toy.Restore(changed); err != nil {
		t.Fatal(err)
	}
	j.steps, j.digest = 1, "e"
	<-s.ready
	if !reflect.DeepEqual(s.state, want) {
		t.Error("the copy of step 0 changed with the parameters")
	}
	if next := j.snapshot(); next == s || next.step != 1 {
		t.Errorf("the next copy is of step %d, want one of step 1", next.step)
	}
	j.settle()
}

// weighty is a Trainer of many parameters that does nothing.
type weighty struct {
	Trainer
	state trainer.State
}

func (w *weighty) State() trainer.State {
	s := w.state
	s.Parameters, s.First, s.Second = slices.Clone(s.Parameters), slices.Clone(s.First), slices.Clone(s.Second)
	return s
}

// BenchmarkCopyStall is how long the step loop stands still for a copy of 40 M parameters and their moments (485 MB): to
// begin it between two steps, and to wait for it before the update, for a step of a second and for one of no time at all.
func BenchmarkCopyStall(b *testing.B) {
	const size = 40_400_000
	w := &weighty{state: trainer.State{Parameters: make([]float32, size), First: make([]float32, size), Second: make([]float32, size)}}
	for name, step := range map[string]time.Duration{"step of 1s": time.Second, "no step": 0} {
		b.Run(name, func(b *testing.B) {
			j := &job{trainer: w, log: testLog()}
			var begin, wait time.Duration
			for b.Loop() {
				j.steps++
				at := time.Now()
				j.snapshot()
				begin += time.Since(at)
				time.Sleep(step)
				at = time.Now()
				j.settle()
				wait += time.Since(at)
			}
			b.ReportMetric(begin.Seconds()*1e3/float64(b.N), "begin-ms")
			b.ReportMetric(wait.Seconds()*1e3/float64(b.N), "wait-ms")
		})
	}
}
