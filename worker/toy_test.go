package worker

import (
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/worker/workertest"
)

// The toy of package workertest, by the short names of this package's tests.
type (
	toy     = workertest.Toy
	toyFeed = workertest.Feed
)

func newToy() *toy { return workertest.NewToy() }

func batch(step int64) (data.Header, []data.Shard) { return workertest.Batch(step) }

func score(rows []float32) float64 { return workertest.Score(rows) }

// alone returns the outcomes of an undisturbed run without any fleet, and the scores of the suite by step.
func alone(t testing.TB, steps int64, change ...func(*toy)) ([]trainer.Outcome, map[int64]float64) {
	out, scores, err := workertest.Alone(workertest.Feed{}, steps, change...)
	if err != nil {
		t.Fatal(err)
	}
	return out, scores
}
