package metric

import (
	"fmt"
	"slices"
)

// None is the label of a row that has none at some level.
const None = -1

// Clustering is mteb's bootstrapped clustering (AbsTaskClustering): at each level, ten times, RoundSize rows are drawn
// with replacement and clustered into as many clusters as the level has labels. Zero settings stand for mteb's.
type Clustering struct {
	X         Rows
	Levels    [][]int // Levels[l][i] is the label of row i, or None
	Rounds    int     // 10
	RoundSize int     // 16,384
	Batch     int     // 512
	Seed      uint32  // 42, of the clusterings; 0 is not available
	Random    *Python // the stream of the draws: where the draw of the rows to embed left it; nil is NewPython(Seed)
}

// Main is v_measure.
func (Clustering) Main() string { return "v_measure" }

// Sampled are the rows that mteb embeds of a clustering task: share of n, and never more than n, drawn from the task's
// stream, which then belongs into Random.
func Sampled(random Python, n int, share float64) []int {
	return random.Sample(n, min(n, int(share*float64(n))))
}

// Round is one clustering of a bootstrap.
type Round struct {
	Level int
	Agreement
}

// Score has v_measure and ami, means over all rounds of all levels, and v_measure_std and ami_std.
func (t Clustering) Score() (Scores, error) {
	rounds, err := t.Run()
	if err != nil {
		return nil, err
	}
	v, ami := make([]float64, len(rounds)), make([]float64, len(rounds))
	for i, r := range rounds {
		v[i], ami[i] = r.V, r.AMI
	}
	out := Scores{}
	out["v_measure"], out["v_measure_std"] = meanAndDeviation(v)
	out["ami"], out["ami_std"] = meanAndDeviation(ami)
	return out, nil
}

// Run does the clusterings, level by level.
func (t Clustering) Run() ([]Round, error) {
	if t.Rounds == 0 {
		t.Rounds = 10
	}
	if t.RoundSize == 0 {
		t.RoundSize = 16384
	}
	if t.Batch == 0 {
		t.Batch = 512
	}
	if t.Seed == 0 {
		t.Seed = 42
	}
	random := NewPython(t.Seed)
	if t.Random != nil {
		random = *t.Random
	}
	if len(t.Levels) == 0 {
		return nil, fmt.Errorf("x: no labels")
	}
	var out []Round
	for l, labels := range t.Levels {
		if err := t.X.check("x", len(labels)); err != nil {
			return nil, err
		}
		var valid []int
		for i, label := range labels {
			if label != None {
				valid = append(valid, i)
			}
		}
		if len(valid) == 0 {
			return nil, fmt.Errorf("x: no row has a label at level %d", l)
		}
		k := MiniBatch{Clusters: len(distinct(labels)), Batch: t.Batch, Seed: t.Seed}
		if slices.Contains(labels, None) {
			k.Clusters--
		}
		for range t.Rounds {
			rows := random.Choices(len(valid), t.RoundSize)
			drawn := make([]int, len(rows))
			for i, r := range rows {
				rows[i] = valid[r]
				drawn[i] = labels[rows[i]]
			}
			g, err := k.agreement(t.X.Select(rows), drawn)
			if err != nil {
				return nil, err
			}
			out = append(out, Round{Level: l, Agreement: g})
		}
	}
	return out, nil
}

// agreement clusters rows and compares with their labels.
func (b MiniBatch) agreement(x Rows, labels []int) (Agreement, error) {
	fitted, err := b.Fit(x)
	if err != nil {
		return Agreement{}, err
	}
	return Agree(labels, fitted.Clusters)
}

// ClusteringSets is mteb's older clustering (AbsTaskClusteringLegacy): every set is clustered once.
type ClusteringSets struct {
	Sets   []Rows
	Labels [][]int // of each set
	Batch  int     // 500
	Seed   uint32  // 42; 0 is not available
}

// Main is v_measure.
func (ClusteringSets) Main() string { return "v_measure" }

// Score has v_measure, the mean over the sets, and v_measure_std. A set with one label only counts 1.
func (t ClusteringSets) Score() (Scores, error) {
	if t.Batch == 0 {
		t.Batch = 500
	}
	if t.Seed == 0 {
		t.Seed = 42
	}
	if len(t.Sets) == 0 || len(t.Sets) != len(t.Labels) {
		return nil, fmt.Errorf("cluster %d sets with %d lists of labels", len(t.Sets), len(t.Labels))
	}
	v := make([]float64, len(t.Sets))
	for i, x := range t.Sets {
		labels := t.Labels[i]
		if err := x.check(fmt.Sprintf("set %d", i), len(labels)); err != nil {
			return nil, err
		}
		k := MiniBatch{Clusters: len(distinct(labels)), Batch: t.Batch, Seed: t.Seed}
		if k.Clusters == 1 {
			v[i] = 1
			continue
		}
		g, err := k.agreement(x, labels)
		if err != nil {
			return nil, fmt.Errorf("set %d: %w", i, err)
		}
		v[i] = g.V
	}
	out := Scores{}
	out["v_measure"], out["v_measure_std"] = meanAndDeviation(v)
	return out, nil
}
