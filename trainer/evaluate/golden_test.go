package evaluate

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate/metric"
)

const tolerance = 1e-9

// number is a float64 that may be written "NaN", "+Inf" or "-Inf".
type number float64

func (n *number) UnmarshalJSON(raw []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	*n = number(f)
	return err
}

type expected struct {
	Queries         int
	QueriesComplete int                          `json:"queries_complete"`
	Mean            map[string]number            `json:"mean"`
	MeanComplete    map[string]number            `json:"mean_complete"`
	PerQuery        map[string]map[string]number `json:"per_query"`
}

// open opens name or name.gz in dir; nil when neither is there.
func open(t *testing.T, dir, name string) io.Reader {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, name))
	if err == nil {
		t.Cleanup(func() { f.Close() })
		return f
	}
	if f, err = os.Open(filepath.Join(dir, name+".gz")); err != nil {
		return nil
	}
	t.Cleanup(func() { f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func decode(t *testing.T, dir, name string, into any) {
	t.Helper()
	r := open(t, dir, name)
	if r == nil {
		t.Fatalf("%s is not in %s", name, dir)
	}
	if err := json.NewDecoder(r).Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func load(t *testing.T, dir, run, qrels string) (Run, data.Qrels) {
	t.Helper()
	r, err := ReadRun(run, open(t, dir, run))
	if err != nil {
		t.Fatal(err)
	}
	q, err := ReadJudgments(qrels, open(t, dir, qrels))
	if err != nil {
		t.Fatal(err)
	}
	return r, q
}

// caseDirs returns the folders that have the file.
func caseDirs(t *testing.T, file string) []string {
	t.Helper()
	root := filepath.Join(golden.Dir(t, "metrics"), "retrieval")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, e := range entries {
		if dir := filepath.Join(root, e.Name()); e.IsDir() && open(t, dir, file) != nil && open(t, dir, "expected.json") != nil {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		t.Fatalf("no folder of %s has %s", root, file)
	}
	return dirs
}

// compare holds means and per-query values against expected ones.
func compare(t *testing.T, what string, run Run, qrels data.Qrels, p Precision, want *expected) {
	t.Helper()
	for complete, means := range map[bool]map[string]number{false: want.Mean, true: want.MeanComplete} {
		for name, w := range means {
			got, n, err := Mean(run, qrels, p, name, complete)
			if err != nil {
				t.Fatal(err)
			}
			queries := map[bool]int{false: want.Queries, true: want.QueriesComplete}[complete]
			if !(math.Abs(got-float64(w)) <= tolerance) || n != queries {
				t.Errorf("%s: Mean(%s, complete %v) = %v of %d, want %v of %d", what, name, complete, got, n, w, queries)
			}
		}
	}
	for query, values := range want.PerQuery {
		r := Judge(Rank(run[query], p), qrels[query])
		for name, w := range values {
			got, err := r.Measure(name)
			if err != nil {
				t.Fatal(err)
			}
			if !(math.Abs(got-float64(w)) <= tolerance) {
				t.Errorf("%s: %s of %s = %v, want %v", what, name, query, got, w)
			}
		}
	}
}

func TestMeasuresGolden(t *testing.T) {
	for _, dir := range caseDirs(t, "run.txt") {
		if open(t, dir, "excluded.json") != nil {
			continue // TestExcludeGolden
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var want struct {
				Float32 *expected                  `json:"float32"`
				Float64 *expected                  `json:"float64"`
				Same    bool                       `json:"float64_same_as_float32"`
				MTEB    map[string]json.RawMessage `json:"mteb"`
				ST      map[string]json.RawMessage `json:"sentence_transformers"`
			}
			decode(t, dir, "expected.json", &want)
			run, qrels := load(t, dir, "run.txt", "qrels.txt")
			compare(t, "float32", run, qrels, Single, want.Float32)
			if want.Same {
				want.Float64 = want.Float32
			}
			compare(t, "float64", run, qrels, Double, want.Float64)
			compareMTEB(t, run, qrels, want.MTEB)
			comparePerQuery(t, run, qrels, want.MTEB)
			compareSentenceTransformers(t, run, qrels, want.ST)
		})
	}
}

// compareMTEB compares mteb's dictionary: means that it rounds to five decimals, mrr and nauc, which it does not.
func compareMTEB(t *testing.T, run Run, qrels data.Qrels, mteb map[string]json.RawMessage) {
	t.Helper()
	got := MTEB(run, qrels)
	compared := 0
	for name, raw := range mteb {
		var want number
		if err := json.Unmarshal(raw, &want); err != nil {
			continue // per_query_*
		}
		within := 5e-6 + tolerance
		switch {
		case strings.HasPrefix(name, "nauc_"):
			within = 1e-6
		case strings.HasPrefix(name, "mrr_"):
			within = tolerance
		}
		value, ok := got[name]
		if compared++; !ok || !(math.Abs(value-float64(want)) <= within || math.IsNaN(value) && math.IsNaN(float64(want))) {
			t.Errorf("mteb: %s = %v, want %v", name, value, want)
		}
	}
	if compared < 50 {
		t.Errorf("expected.json has %d scores of mteb", compared)
	}
}

// comparePerQuery compares mteb's values by query: mrr at 10, capped recall and holes.
func comparePerQuery(t *testing.T, run Run, qrels data.Qrels, mteb map[string]json.RawMessage) {
	t.Helper()
	var mrr map[string]float64
	var extra struct {
		Queries   []string
		RecallCap map[string][]*float64 `json:"recall_cap"`
		Hole      map[string][]float64
	}
	for name, into := range map[string]any{"per_query_mrr_at_10": &mrr, "per_query_extra": &extra} {
		if err := json.Unmarshal(mteb[name], into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if len(mrr) == 0 || len(extra.RecallCap) == 0 || len(extra.Hole) == 0 {
		t.Error("expected.json lacks values by query")
	}
	known := JudgedDocuments(qrels)
	for query, want := range mrr {
		if got := Judge(Rank(run[query], Double), qrels[query]).ReciprocalRank(10); math.Abs(got-want) > tolerance {
			t.Errorf("mteb: mrr at 10 of %s = %v, want %v", query, got, want)
		}
	}
	for i, query := range extra.Queries {
		ranked := Rank(run[query], Double)
		r := Judge(ranked, qrels[query])
		for at, want := range extra.RecallCap {
			k, _ := strconv.Atoi(strings.TrimPrefix(at, "at_"))
			got := r.CappedRecall(k)
			if want[i] == nil && !math.IsNaN(got) || want[i] != nil && !(math.Abs(got-*want[i]) <= tolerance) {
				t.Errorf("mteb: capped recall at %d of %s = %v, want %v", k, query, got, want[i])
			}
		}
		for at, want := range extra.Hole {
			k, _ := strconv.Atoi(strings.TrimPrefix(at, "at_"))
			if got := Hole(ranked, k, known); math.Abs(got-want[i]) > tolerance {
				t.Errorf("mteb: hole at %d of %s = %v, want %v", k, query, got, want[i])
			}
		}
	}
}

func compareSentenceTransformers(t *testing.T, run Run, qrels data.Qrels, want map[string]json.RawMessage) {
	t.Helper()
	compared := 0
	for measure, raw := range want {
		var byCut map[string]number
		if json.Unmarshal(raw, &byCut) != nil {
			continue // queries
		}
		for cut, w := range byCut {
			k, err := strconv.Atoi(cut)
			if err != nil {
				t.Fatal(err)
			}
			compared++
			if got := SentenceTransformers(run, qrels, k)[measure+"@"+cut]; !(math.Abs(got-float64(w)) <= tolerance) {
				t.Errorf("sentence-transformers: %s@%s = %v, want %v", measure, cut, got, w)
			}
		}
	}
	if compared == 0 {
		t.Error("expected.json has nothing of sentence-transformers")
	}
}

func TestExcludeGolden(t *testing.T) {
	for _, dir := range caseDirs(t, "excluded.json") {
		var want map[string]json.RawMessage
		decode(t, dir, "expected.json", &want)
		var cut int
		if err := json.Unmarshal(want["cut"], &cut); err != nil {
			t.Fatal(err)
		}
		var excluded map[string][]string
		decode(t, dir, "excluded.json", &excluded)
		run, qrels := load(t, dir, "run.txt", "qrels.txt")
		for _, name := range exclusions {
			x, err := ParseExclusion(name)
			if err != nil {
				t.Fatal(err)
			}
			var w expected
			if err := json.Unmarshal(want[name], &w); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			compare(t, name, CutExcluding(run, excluded, x, Single, cut), qrels, Single, &w)
		}
	}
}

func TestPMRRGolden(t *testing.T) {
	for _, dir := range caseDirs(t, "qrel_diff.json") {
		var want struct {
			PMRR     float64                    `json:"p-MRR"`
			PerQuery map[string]float64         `json:"per_query"`
			Original map[string]json.RawMessage `json:"og"`
			Changed  map[string]json.RawMessage `json:"changed"`
		}
		decode(t, dir, "expected.json", &want)
		var changed map[string][]string
		decode(t, dir, "qrel_diff.json", &changed)
		og, ogQrels := load(t, dir, "run.og.txt", "qrels.og.txt")
		next, nextQrels := load(t, dir, "run.changed.txt", "qrels.changed.txt")
		compareMTEB(t, og, ogQrels, want.Original)
		compareMTEB(t, next, nextQrels, want.Changed)
		got, per := PMRR(og, next, changed)
		if math.Abs(got-want.PMRR) > tolerance || len(per) != len(want.PerQuery) {
			t.Errorf("PMRR = %v of %d queries, want %v of %d", got, len(per), want.PMRR, len(want.PerQuery))
		}
		for query, w := range want.PerQuery {
			if math.Abs(per[query]-w) > tolerance {
				t.Errorf("PMRR of %s = %v, want %v", query, per[query], w)
			}
		}
	}
}

func TestLongEmbedGolden(t *testing.T) {
	dir := filepath.Join(golden.Dir(t, "metrics"), "retrieval", "longembed")
	var want struct {
		Splits map[string]struct {
			Acc  float64 `json:"acc_at_1"`
			NDCG float64 `json:"ndcg_at_10"`
		}
		Mean float64 `json:"acc_at_1_mean_of_splits"`
	}
	decode(t, dir, "expected.json", &want)
	sum := 0.0
	for split, w := range want.Splits {
		run, qrels := load(t, dir, split+".run.txt", split+".qrels.txt")
		acc, _, err := Mean(run, qrels, Single, "ndcg_cut_1", false)
		if err != nil {
			t.Fatal(err)
		}
		ndcg, _, _ := Mean(run, qrels, Single, "ndcg_cut_10", false)
		if math.Abs(acc-w.Acc) > tolerance || math.Abs(ndcg-w.NDCG) > tolerance {
			t.Errorf("%s = %v, %v, want %v", split, acc, ndcg, w)
		}
		sum += acc
	}
	if got := sum / float64(len(want.Splits)); math.Abs(got-want.Mean) > tolerance {
		t.Errorf("mean of splits = %v, want %v", got, want.Mean)
	}
}

func TestSmallRankingsGolden(t *testing.T) {
	var cases []struct {
		Ranked   []*int             `json:"ranked_grades"`
		Missed   []int              `json:"judged_not_retrieved"`
		Expected map[string]float64 `json:"expected"`
	}
	decode(t, filepath.Join(golden.Dir(t, "metrics"), "retrieval"), "small-rankings.json", &cases)
	for i, c := range cases {
		judged := map[string]int{}
		var hits []Hit
		for rank, grade := range c.Ranked {
			id := strconv.Itoa(rank)
			hits = append(hits, Hit{Document: id, Score: -float64(rank)})
			if grade != nil {
				judged[id] = *grade
			}
		}
		for j, grade := range c.Missed {
			judged["missed"+strconv.Itoa(j)] = grade
		}
		r := Judge(Rank(hits, Single), judged)
		for name, want := range c.Expected {
			if got, err := r.Measure(name); err != nil || math.Abs(got-want) > tolerance {
				t.Errorf("ranking %d: %s = %v, %v, want %v", i, name, got, err, want)
			}
		}
	}
}

func TestMalformedGolden(t *testing.T) {
	dir := filepath.Join(golden.Dir(t, "metrics"), "retrieval", "malformed")
	var cases []struct {
		File, Kind, Expect, Why string
		Line                    *int
	}
	decode(t, dir, "manifest.json", &cases)
	for _, c := range cases {
		t.Run(c.File, func(t *testing.T) {
			var err error
			var queries []string
			switch r := open(t, dir, c.File); c.Kind {
			case "run":
				var run Run
				run, err = ReadRun(c.File, r)
				queries = sortedKeys(run)
			case "qrels":
				var qrels data.Qrels
				qrels, err = ReadJudgments(c.File, r)
				queries = sortedKeys(qrels)
			case "beir-qrels":
				var qrels data.Qrels
				qrels, err = data.ReadQrels(c.File, r)
				queries = sortedKeys(qrels)
			default:
				t.Fatalf("unknown kind %q", c.Kind)
			}
			if c.Expect == "ok" && err != nil || c.Expect == "error" && err == nil {
				t.Fatalf("read %s (%s) = %v, want %s", c.File, c.Why, err, c.Expect)
			}
			if err == nil {
				for _, q := range queries {
					if strings.HasPrefix(q, "\ufeff") {
						t.Errorf("read %s: the query %q has a byte-order mark", c.File, q)
					}
				}
				return
			}
			where := c.File
			if c.Line != nil {
				where += ":" + strconv.Itoa(*c.Line) + ":"
			}
			if !strings.Contains(err.Error(), where) {
				t.Errorf("read %s (%s) = %q, want %q in it", c.File, c.Why, err, where)
			}
			t.Log(err)
		})
	}
}

func FuzzReadRun(f *testing.F) {
	f.Add("q Q0 d 1 0.5 t\n")
	f.Add("q 0 d 1\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		if run, err := ReadRun("f", strings.NewReader(text)); (err == nil) != (len(run) > 0) {
			t.Fatalf("ReadRun(%q) = %v, %v", text, run, err)
		}
		if qrels, err := ReadJudgments("f", strings.NewReader(text)); (err == nil) != (len(qrels) > 0) {
			t.Fatalf("ReadJudgments(%q) = %v, %v", text, qrels, err)
		}
	})
}

func TestRerankingGolden(t *testing.T) {
	var want struct {
		Queries []struct {
			ID                 string    `json:"query_id"`
			Query              []float32 `json:"query"`
			Positive, Negative [][]float32
			Documents          []string  `json:"doc_ids"`
			Rounded            []float64 `json:"cosine_rounded_6"`
			Expected           map[string]float64
			Sklearn            map[string]float64
		}
		Expected map[string]float64
	}
	decode(t, filepath.Join(golden.Dir(t, "metrics"), "similarity"), "reranking.json", &want)
	rows := func(list [][]float32) (r metric.Rows) {
		for _, row := range list {
			r.Width = len(row)
			r.Data = append(r.Data, row...)
		}
		return r
	}
	var task Reranking
	rounded := Run{}
	for _, q := range want.Queries {
		task.Pools = append(task.Pools, Pool{ID: q.ID, Query: q.Query, Positive: rows(q.Positive), Negative: rows(q.Negative)})
		for i, id := range q.Documents {
			rounded[q.ID] = append(rounded[q.ID], Hit{Document: id, Score: q.Rounded[i]})
		}
	}
	run, qrels, err := task.Run()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range want.Queries {
		for i, h := range run[q.ID] {
			if h.Document != q.Documents[i] || math.Abs(h.Score-q.Rounded[i]) > 1e-6 {
				t.Errorf("%s: document %d = %v, want %s of %v", q.ID, i, h, q.Documents[i], q.Rounded[i])
			}
		}
		r := Judge(Rank(rounded[q.ID], Single), qrels[q.ID])
		for name, w := range q.Expected {
			if got, err := r.Measure(name); err != nil || math.Abs(got-w) > tolerance {
				t.Errorf("%s: %s = %v, %v, want %v", q.ID, name, got, err, w)
			}
		}
		var scores []float64
		var labels []int
		for _, h := range rounded[q.ID] {
			scores, labels = append(scores, h.Score), append(labels, qrels[q.ID][h.Document])
		}
		if got := metric.Divide(scores, labels).AP; math.Abs(got-q.Sklearn["ap"]) > tolerance {
			t.Errorf("%s: AP with ties as blocks = %v, want %v", q.ID, got, q.Sklearn["ap"])
		}
	}
	got := MTEB(rounded, qrels)
	for name, ours := range map[string]string{"map": "map_at_1000", "mrr_at_10": "mrr_at_10", "ndcg_at_10": "ndcg_at_10"} {
		if math.Abs(got[ours]-want.Expected[name]) > tolerance {
			t.Errorf("%s = %v, want %v", ours, got[ours], want.Expected[name])
		}
	}
}
