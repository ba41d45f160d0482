package evaluate

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate/metric"
)

// Reranking is a task of pools: of each query, the positives should be nearer than the negatives (mteb's reranking).
// Documents bear mteb's ids, and are scored by its retrieval measures: where similarities tie, a negative comes first.
type Reranking struct {
	Pools []Pool
}

// Pool is one query with its documents.
type Pool struct {
	ID                 string
	Query              []float32
	Positive, Negative metric.Rows
}

var _ metric.Task = Reranking{}

// Main is map_at_1000.
func (Reranking) Main() string { return "map_at_1000" }

// Score has every score of MTEB.
func (t Reranking) Score() (metric.Scores, error) {
	run, qrels, err := t.Run()
	if err != nil {
		return nil, err
	}
	return MTEB(run, qrels), nil
}

// Run scores the pools by cosine.
func (t Reranking) Run() (Run, data.Qrels, error) {
	run, qrels := Run{}, data.Qrels{}
	for _, p := range t.Pools {
		if _, ok := run[p.ID]; ok {
			return nil, nil, fmt.Errorf("query %q is there twice", p.ID)
		}
		run[p.ID], qrels[p.ID] = nil, map[string]int{}
		for _, side := range []struct {
			name  string
			rows  metric.Rows
			grade int
		}{{"apositive", p.Positive, 1}, {"negative", p.Negative, 0}} {
			if side.rows.Width != len(p.Query) && len(side.rows.Data) > 0 {
				return nil, nil, fmt.Errorf("query %q: width %d, documents %d", p.ID, len(p.Query), side.rows.Width)
			}
			for i := range side.rows.Len() {
				id := fmt.Sprintf("%s_%s_%05d", side.name, p.ID, i)
				score := metric.Cosine(p.Query, side.rows.Row(i))
				if score != score {
					return nil, nil, fmt.Errorf("query %q, document %s: %w", p.ID, id, ErrNonFinite)
				}
				run[p.ID] = append(run[p.ID], Hit{Document: id, Score: score})
				qrels[p.ID][id] = side.grade
			}
		}
	}
	if len(run) == 0 {
		return nil, nil, fmt.Errorf("reranking: no queries")
	}
	return run, qrels, nil
}
