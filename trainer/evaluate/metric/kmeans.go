package metric

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// MiniBatch is mini-batch k-means (Sculley, "Web-scale k-means clustering", WWW 2010) with the steps, the settings and
// the random draws of scikit-learn 1.9: MiniBatchKMeans(n_clusters, batch_size, init="k-means++", n_init=1,
// random_state=seed). scikit-learn computes with float32 here and this with float64, so a draw near a boundary, and
// what follows from it, may differ.
type MiniBatch struct {
	Clusters int
	Batch    int // rows of a step
	Seed     uint32
}

// Fitted is what a clustering found.
type Fitted struct {
	Centers  []float64 // [clusters, width]
	Clusters []int     // of each row
	Inertia  float64   // sum of squared distances to the nearest centre
	Steps    int
}

const (
	passes       = 100  // over the rows, at most
	patience     = 10   // steps without improvement of the smoothed inertia
	reassignment = 0.01 // a centre with less than this share of the greatest weight is moved
)

// Fit clusters rows.
func (b MiniBatch) Fit(x Rows) (Fitted, error) {
	n := x.Len()
	if err := x.check("x", n); err != nil {
		return Fitted{}, err
	}
	if b.Clusters < 1 || b.Clusters > n || b.Batch < 1 {
		return Fitted{}, fmt.Errorf("cluster %d rows into %d with batches of %d", n, b.Clusters, b.Batch)
	}
	random := NewNumpy(b.Seed)
	batch := min(b.Batch, n)
	initial := 3 * batch
	if initial < b.Clusters {
		initial = 3 * b.Clusters
	}
	initial = min(initial, n)
	for range initial {
		random.Below(n) // the rows that would choose between several beginnings
	}
	rows := sequence(n)
	if initial < n {
		rows = rows[:initial]
		for i := range rows {
			rows[i] = random.Below(n)
		}
	}
	run := fitting{
		x: x, k: b.Clusters, random: random, centers: plusPlus(x, rows, b.Clusters, random),
		weights: make([]float64, b.Clusters), uniform: cumulative(n),
	}
	run.steps(passes*n/batch, batch)
	out := Fitted{Centers: run.centers, Steps: run.done}
	out.Clusters, out.Inertia = nearest(x, sequence(n), run.centers, b.Clusters)
	return out, nil
}

// cumulative is the distribution function that RandomState.choice draws from when all n are as likely.
func cumulative(n int) []float64 {
	out, sum := make([]float64, n), 0.0
	for i := range out {
		sum += 1 / float64(n)
		out[i] = sum
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// choose is RandomState.choice with the distribution function p.
func (r Numpy) choose(p []float64) int {
	v := r.Float64()
	return sort.Search(len(p), func(i int) bool { return p[i] > v })
}

// fitting is a fit under way.
type fitting struct {
	x       Rows
	k       int
	random  Numpy
	centers []float64 // [k, width]
	weights []float64 // rows that each centre is the mean of
	uniform []float64
	since   int // rows since the last reassignment
	done    int
}

// steps takes mini-batches until the inertia, smoothed with alpha = min(1, 2 batch / (n + 1)), has not improved for
// ten steps. The first step is not looked at, since its inertia is that of the beginning.
func (f *fitting) steps(most, batch int) {
	alpha := min(1, float64(batch)*2/float64(f.x.Len()+1))
	smooth, least, stale := math.NaN(), math.Inf(1), 0
	rows := make([]int, batch)
	for f.done < most {
		for i := range rows {
			rows[i] = f.random.choose(f.uniform)
		}
		inertia := f.step(rows) / float64(batch)
		if f.done++; f.done == 1 {
			continue
		}
		if math.IsNaN(smooth) {
			smooth = inertia
		} else {
			smooth = float64(smooth*(1-alpha)) + float64(inertia*alpha)
		}
		if smooth < least {
			least, stale = smooth, 0
		} else if stale++; stale >= patience {
			return
		}
	}
}

// step moves each centre to the mean of all rows that it has been given, and returns the inertia before that.
func (f *fitting) step(rows []int) float64 {
	d := f.x.Width
	f.since += len(rows)
	reassign := f.since >= 10*f.k || slices.Contains(f.weights, 0)
	if reassign {
		f.since = 0
	}
	of, inertia := nearest(f.x, rows, f.centers, f.k)
	given := make([]float64, f.k)
	for _, c := range of {
		given[c]++
	}
	for c, n := range given {
		if n > 0 {
			scale(f.centers[c*d:(c+1)*d], f.weights[c])
		}
	}
	for i, c := range of {
		center := f.centers[c*d : (c+1)*d]
		for j, v := range f.x.Row(rows[i]) {
			center[j] += float64(v)
		}
	}
	for c, n := range given {
		if n > 0 {
			f.weights[c] += n
			scale(f.centers[c*d:(c+1)*d], 1/f.weights[c])
		}
	}
	if reassign {
		f.reassign(rows)
	}
	return inertia
}

// reassign puts centres that have very few rows onto rows of the batch: at most half as many as it has rows.
func (f *fitting) reassign(rows []int) {
	few := make([]bool, f.k)
	count := 0
	most := slices.Max(f.weights)
	for c, w := range f.weights {
		if w < reassignment*most {
			few[c] = true
			count++
		}
	}
	if half := len(rows) / 2; 2*count > len(rows) {
		for _, c := range sortedOrder(f.weights)[half:] {
			if few[c] {
				few[c] = false
				count--
			}
		}
	}
	if count == 0 {
		return
	}
	chosen := f.random.Permutation(len(rows))[:count]
	least := math.Inf(1)
	for c, w := range f.weights {
		if !few[c] {
			least = min(least, w)
		}
	}
	d := f.x.Width
	for c := range few {
		if !few[c] {
			continue
		}
		for j, v := range f.x.Row(rows[chosen[0]]) {
			f.centers[c*d+j] = float64(v)
		}
		chosen = chosen[1:]
		f.weights[c] = least // not so few that it is moved again at once
	}
}

func scale(v []float64, by float64) {
	for i := range v {
		v[i] *= by
	}
}
