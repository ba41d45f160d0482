package evaluate

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
)

// Four unit vectors a quarter turn apart, and their halves.
func turn(quarters ...float64) []float32 {
	var rows []float32
	for _, q := range quarters {
		rows = append(rows, float32(math.Cos(q*math.Pi/2)), float32(math.Sin(q*math.Pi/2)))
	}
	return rows
}

func TestScoreKinds(t *testing.T) {
	ranking := func(s data.Sheet) data.Sheet {
		s.Name, s.Queries, s.Documents = "s", []string{"q"}, []string{"a", "b", "c"}
		s.Qrels = data.Qrels{"q": {"b": 1}}
		return s
	}
	near := turn(0, 0.1, 0.2, 0.3) // a, then b, then c
	for _, c := range []struct {
		name  string
		sheet data.Sheet
		rows  []float32
		want  map[string]float64
	}{
		{"retrieval", ranking(data.Sheet{}), near, map[string]float64{"ndcg@10": 1 / math.Log2(3), MainScore: 1 / math.Log2(3), "ndcg@1": 0}},
		{"main", ranking(data.Sheet{Main: "recall@10"}), near, map[string]float64{MainScore: 1}},
		{"excluded", ranking(data.Sheet{Excluded: map[string][]string{"q": {"a"}}}), near, map[string]float64{"ndcg@10": 1}},
		{"excluded kept", ranking(data.Sheet{Excluded: map[string][]string{"q": {"a"}}, Exclusion: data.KeepExcluded}), near, map[string]float64{"ndcg@1": 0}},
		{"excluded zeroed", ranking(data.Sheet{Excluded: map[string][]string{"q": {"a"}}, Exclusion: data.ZeroExcluded}), turn(0, 0, 1.5, 1.6), map[string]float64{"ndcg@1": 0, "mrr@10": 0.5}},
		{"excluded zeroed, others negative", ranking(data.Sheet{Excluded: map[string][]string{"q": {"a"}}, Exclusion: data.ZeroExcluded}), turn(0, 0, 0.5, 1.6), map[string]float64{"ndcg@1": 1}},
		{"pool", ranking(data.Sheet{Pools: map[string][]string{"q": {"b", "c", "gone"}}}), near, map[string]float64{"ndcg@1": 1}},
		{"followir", data.Sheet{
			Main: "p-mrr", Queries: []string{"1-og", "1-changed"}, Documents: []string{"a", "b"}, Qrels: data.Qrels{"1-og": {"a": 1}, "1-changed": {"a": 0}},
			Pools: map[string][]string{"1-og": {"a", "b"}, "1-changed": {"a", "b"}}, Changed: map[string][]string{"1": {"a"}},
		}, turn(0, 1, 0, 1), map[string]float64{"p-mrr": 0.5, "ndcg@5": 1, MainScore: 0.5}},
		{"sts", data.Sheet{Kind: data.STSTask, Gold: []float64{5, 3, 1}}, turn(0, 0, 0, 0.1, 0.5, 0.9), map[string]float64{"cosine_spearman": 1, MainScore: 1}},
		{"pairs", data.Sheet{Kind: data.PairsTask, Gold: []float64{1, 0, 1}}, turn(0, 0, 0, 0.1, 0.9, 0.2), map[string]float64{"max_ap": 1, MainScore: 1}},
		{"bitext", data.Sheet{Kind: data.BitextTask}, turn(0, 1, 0.1, 1.1), map[string]float64{"f1": 1, "accuracy": 1, MainScore: 1}},
		{"classification", data.Sheet{Kind: data.ClassificationTask, Train: 4, Labels: [][]string{{"x", "y", "x", "y", "y", "x"}}}, turn(0, 2, 0.1, 2.1, 2.2, -0.1), map[string]float64{"accuracy": 1, MainScore: 1}},
		{"clustering", data.Sheet{Kind: data.ClusteringTask, Labels: [][]string{{"x", "y", "x", "y"}}}, turn(0, 2, 0.01, 2.01), map[string]float64{"v_measure": 1, MainScore: 1}},
		{"clustering sets", data.Sheet{Kind: data.ClusteringTask, Labels: [][]string{{"x", "y", "y", "x"}}, Ends: []int{2, 4}}, turn(0, 2, 0, 2), map[string]float64{"v_measure": 1, MainScore: 1}},
		{"summaries", data.Sheet{Kind: data.SummaryTask, Summaries: []data.Summary{{Human: []int32{0}, Machine: []int32{1, 2, 3}, Gold: []float64{3, 2, 1}}}}, turn(0, 0.1, 0.3, 0.9), map[string]float64{"cosine_spearman": 1, MainScore: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Score(&c.sheet, c.rows, 2)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range c.want {
				if v, ok := got[name]; !ok || math.Abs(v-want) > 1e-9 {
					t.Errorf("Score: %s = %v, want %v", name, v, want)
				}
			}
			if got[MainScore] != got[Main(&c.sheet)] {
				t.Errorf("Score: %s = %v and %s = %v", MainScore, got[MainScore], Main(&c.sheet), got[Main(&c.sheet)])
			}
			bad := append([]float32{float32(math.NaN())}, c.rows[1:]...)
			if _, err := Score(&c.sheet, bad, 2); !errors.Is(err, ErrNonFinite) {
				t.Errorf("Score of NaN = %v, want ErrNonFinite", err)
			}
			if _, err := Score(&c.sheet, c.rows[2:], 2); err == nil && c.sheet.Kind != data.BitextTask && len(c.sheet.Labels) == 0 {
				t.Error("Score of too few rows = nil, want an error")
			}
		})
	}
}

func TestScoreRefuses(t *testing.T) {
	for _, c := range []struct {
		sheet data.Sheet
		want  string
	}{
		{data.Sheet{Kind: data.STSTask, Gold: []float64{1, 1}}, "cosine_spearman is not defined"},
		{data.Sheet{Kind: "quiz"}, `kind "quiz"`},
		{data.Sheet{Main: "ndcg@7", Queries: []string{"q"}, Documents: []string{"a", "b", "c"}, Qrels: data.Qrels{"q": {"a": 1}}}, `no metric "ndcg@7"`},
	} {
		if _, err := Score(&c.sheet, turn(0, 0.1, 0.2, 0.3), 2); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Score(%+v) = %v, want %q", c.sheet, err, c.want)
		}
	}
}
