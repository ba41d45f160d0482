package progress

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

func events() []coordinator.Event {
	t := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	es := []coordinator.Event{
		{Time: t, Kind: coordinator.StateChanged, State: "running"},
		{Time: t, Kind: coordinator.WorkerJoined, Worker: "w1"},
	}
	for s := range int64(10) {
		es = append(es, coordinator.Event{
			Time: t.Add(time.Duration(s) * time.Second), Kind: coordinator.StepCommitted, Step: s + 1, Tokens: 12345, Seconds: 1, Workers: 2,
			Loss: 2.5, Norm: 1.25, Rate: 1e-4,
		})
	}
	return append(es, coordinator.Event{Time: t, Kind: coordinator.SuiteEvaluated, Suite: "dev", Step: 10, Metrics: map[string]float64{"ndcg@10": 0.5}})
}

func TestLines(t *testing.T) {
	var b bytes.Buffer
	v := Lines(&b, 10, 5*time.Second)
	for _, e := range events() {
		v.Event(e)
	}
	v.Close()
	want := []string{
		"run is running",
		"worker w1 joined",
		"step 1/10  loss 2.5000  norm 1.25  lr 1.00e-04  12,345 tok/s  2 workers  ETA 9s",
		"step 6/10  loss 2.5000  norm 1.25  lr 1.00e-04  12,345 tok/s  2 workers  ETA 4s",
		"step 10/10  loss 2.5000  norm 1.25  lr 1.00e-04  12,345 tok/s  2 workers  ETA 0s",
		"evaluated dev after step 10: ndcg@10 0.5000",
	}
	if got := strings.TrimSpace(b.String()); got != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func TestSentence(t *testing.T) {
	for _, c := range []struct {
		event coordinator.Event
		want  string
	}{
		{coordinator.Event{Kind: coordinator.WorkerLost, Worker: "w", Reason: "left: asked to"}, "worker w left: asked to"},
		{coordinator.Event{Kind: coordinator.WorkerLost, Worker: "w", Reason: "silent for 1s"}, "worker w is lost: silent for 1s"},
		{coordinator.Event{Kind: coordinator.CheckpointGone, Step: 8, Path: "c/step-8", Reason: "older than the newest 3"}, ""},
		{
			coordinator.Event{Kind: coordinator.CheckpointGone, Step: 8, Path: "c/step-8", Reason: "damaged: c/step-8/x: 3 bytes\nand more"},
			"WARNING: the checkpoint of step 8 is damaged and left out: c/step-8/x: 3 bytes",
		},
		{coordinator.Event{Kind: coordinator.Restarted, Step: 4, Path: "c/step-4"}, "restarted from the checkpoint of step 4: c/step-4"},
		{coordinator.Event{Kind: coordinator.Rewound, Step: 4, Reason: "worker w: x"}, "WARNING: the steps after step 4 are taken back and executed anew: worker w: x"},
		{coordinator.Event{Kind: coordinator.Restarted}, "restarted from the initial parameters: there is no sound checkpoint"},
	} {
		if got := Sentence(c.event); got != c.want {
			t.Errorf("Sentence(%+v) = %q, want %q", c.event, got, c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	v := JSON(&b)
	for _, e := range events() {
		v.Event(e)
	}
	v.Close()
	d := json.NewDecoder(&b)
	for _, want := range events() {
		var got coordinator.Event
		if err := d.Decode(&got); err != nil || got.Kind != want.Kind || got.Step != want.Step {
			t.Fatalf("event %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestBarEndsWithoutATerminal(t *testing.T) {
	var b bytes.Buffer
	v := Bar(&b, "demo", 20) // more steps than happen: Close must not wait for them
	for _, e := range events() {
		v.Event(e)
	}
	v.Close()
}
