package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

var save = flag.String("save", "", "write the sample report here, to look at it")

// sample is a run with a lost worker, a late joiner and three evaluations.
func sample(name string) []coordinator.Event {
	t := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(s float64) time.Time { return t.Add(time.Duration(s * float64(time.Second))) }
	es := []coordinator.Event{
		{Time: at(0), Kind: coordinator.StateChanged, State: "running"},
		{Time: at(0.1), Kind: coordinator.WorkerJoined, Worker: "w1-1a2b"},
		{Time: at(0.2), Kind: coordinator.WorkerJoined, Worker: "w2-3c4d"},
		{Time: at(0.5), Kind: coordinator.SuiteEvaluated, Suite: "dev", Metrics: map[string]float64{"ndcg@10": 0.12, "r@1": 0.05}},
	}
	for s := 1; s <= 100; s++ {
		es = append(es, coordinator.Event{
			Time: at(float64(s)), Kind: coordinator.StepCommitted, Step: int64(s), Tokens: 20000, Seconds: 1 + 0.2*math.Sin(float64(s)), Workers: 2,
			Loss: 4.8*math.Exp(-float64(s)/30) + 0.3, Norm: 2 + math.Sin(float64(s)), Rate: 1e-3 * math.Min(float64(s)/10, float64(101-s)/90), Parameters: "0123456789abcdef0123",
		})
		if s == 50 {
			es = append(
				es,
				coordinator.Event{Time: at(50.2), Kind: coordinator.WorkerLost, Step: 50, Worker: "w2-3c4d", Reason: "connection lost"},
				coordinator.Event{Time: at(50.4), Kind: coordinator.Recovered, Step: 50, Worker: "w2-3c4d", Recovery: &coordinator.Recovery{Worker: "w2-3c4d", Detected: at(50.2), Released: at(50.25), Commit: at(50.4), Shards: 5}},
				coordinator.Event{Time: at(53), Kind: coordinator.WorkerJoined, Step: 53, Worker: "w3-<5e6f>"},
				coordinator.Event{Time: at(54.5), Kind: coordinator.WorkerReady, Step: 54, Worker: "w3-<5e6f>"},
				coordinator.Event{Time: at(54.6), Kind: coordinator.SuiteEvaluated, Step: 50, Suite: "dev", Metrics: map[string]float64{"ndcg@10": 0.35, "r@1": 0.2}},
			)
		}
	}
	return append(
		es,
		coordinator.Event{Time: at(101), Kind: coordinator.SuiteEvaluated, Step: 100, Suite: "dev", Metrics: map[string]float64{"ndcg@10": 0.45, "r@1": 0.31}},
		coordinator.Event{Time: at(102), Kind: coordinator.CheckpointSaved, Step: 100, Path: "runs/" + name + "/checkpoints/step-00000100"},
		coordinator.Event{Time: at(102), Kind: coordinator.StateChanged, State: "finished", Step: 100},
	)
}

func record(t *testing.T, name string) *Record {
	t.Helper()
	var lines bytes.Buffer
	for _, e := range sample(name) {
		if err := json.NewEncoder(&lines).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	lines.WriteString(`{"kind":"st`) // cut by a crash
	r := &Record{Name: name, Identity: "feedfacefeedface00", Version: "v0.1.0", Plan: "tokens  22,000 a batch\nshards  11"}
	if err := r.Read(&lines); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecord(t *testing.T) {
	r := record(t, "demo")
	if len(r.Steps) != 100 || len(r.Scores) != 3 || r.State != "finished" || len(r.Saves) != 1 {
		t.Fatalf("%d steps, %d scores, state %s, %d saves", len(r.Steps), len(r.Scores), r.State, len(r.Saves))
	}
	rows := r.Results()
	if len(rows) != 2 || rows[0].Label != "demo, step 0" || rows[1].Metrics["ndcg@10"] != 0.45 {
		t.Errorf("rows %+v", rows)
	}
	lanes := r.lanes()
	if len(lanes) != 3 || lanes[1].open || !lanes[2].open {
		t.Errorf("lanes %+v", lanes)
	}
	bad := &Record{}
	if err := bad.Read(strings.NewReader("{\n{}\n")); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("error %v, want line 1 named", err)
	}
}

func TestHTML(t *testing.T) {
	d := Document{Title: "demo & more", Note: "two backbones", Runs: []*Record{record(t, "one"), record(t, "two")}}
	d.Runs[1].Steps[3].Loss = math.NaN()
	var b bytes.Buffer
	if err := d.HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{"demo &amp; more", "main metric", "0.4500", "w3-&lt;5e6f&gt;", "connection lost", "</html>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, no := range []string{"<script", "http://", "https://", "NaN", "ZgotmplZ"} {
		if strings.Contains(page, no) {
			t.Errorf("the page has %q", no)
		}
	}
	if *save != "" {
		if err := os.WriteFile(*save, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var empty bytes.Buffer
	if err := (Document{Title: "nothing yet", Runs: []*Record{{Name: "x"}}}).HTML(&empty); err != nil {
		t.Fatal(err)
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   string
	}{{0, 1, "[0 0.2 0.4 0.6000000000000001 0.8 1]"}, {0, 100, "[0 20 40 60 80 100]"}, {-3, 4, "[-2 0 2 4]"}} {
		if got := fmt.Sprint(ticks(c.lo, c.hi, 5)); got != c.want {
			t.Errorf("ticks(%g, %g) = %s, want %s", c.lo, c.hi, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	got := Table([]Row{
		{Label: "BM25", Metrics: map[string]float64{"ndcg@10": 0.8914, "odd": 1}},
		{Label: "tiny-causal, step 100", Metrics: map[string]float64{"ndcg@10": 0.45, "r@1": 0.3}},
	}, nil)
	want := "" +
		"                       ndcg@10     r@1\n" +
		"──────────────────────────────────────\n" +
		"BM25                    0.8914       -\n" +
		"tiny-causal, step 100   0.4500  0.3000\n"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// A kill or a full disk may cut a line short anywhere; the lines around it count.
func TestReadLeavesOutTornLines(t *testing.T) {
	var r Record
	text := `{"kind":"step","step":1}` + "\n" + `{"kind":"st` + "\n" + `{"kind":"step","step":2}` + "\n" + `{"ki`
	if err := r.Read(strings.NewReader(text)); err != nil || len(r.Steps) != 2 {
		t.Errorf("Read = %v with %d steps, want none and 2", err, len(r.Steps))
	}
	if err := new(Record).Read(strings.NewReader("name: x\nmodel: y\n")); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("Read of a file of something else = %v, want an error naming line 1", err)
	}
}

func TestRemovedCheckpointsAreNotListed(t *testing.T) {
	var r Record
	for _, e := range []coordinator.Event{
		{Kind: coordinator.CheckpointSaved, Step: 4, Path: "c/4"},
		{Kind: coordinator.CheckpointSaved, Step: 8, Path: "c/8"},
		{Kind: coordinator.CheckpointSaved, Step: 12, Path: "c/12"},
		{Kind: coordinator.CheckpointGone, Step: 4, Reason: "older than the newest 2"},
		{Kind: coordinator.CheckpointGone, Step: 12, Reason: "damaged: x"},
	} {
		r.Add(e)
	}
	if len(r.Saves) != 1 || r.Saves[0].Step != 8 || len(r.Timeline) != 1 {
		t.Errorf("checkpoints %+v, timeline %+v, want step 8 alone and the damaged one in the timeline", r.Saves, r.Timeline)
	}
}
