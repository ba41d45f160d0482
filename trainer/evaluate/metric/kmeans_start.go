package metric

import (
	"math"
	"runtime"
	"sort"
	"sync"
)

// plusPlus chooses k of the rows as centres (Arthur and Vassilvitskii, "k-means++", SODA 2007), greedily: of
// 2 + floor(log k) candidates drawn with a probability in proportion to the squared distance from the nearest centre,
// the one that lowers the sum of these distances most. Returns [k, width].
func plusPlus(x Rows, rows []int, k int, random Numpy) []float64 {
	d := x.Width
	centers := make([]float64, 0, k*d)
	add := func(i int) {
		for _, v := range x.Row(rows[i]) {
			centers = append(centers, float64(v))
		}
	}
	distances := func(i int, below []float64) ([]float64, float64) {
		out, sum := make([]float64, len(rows)), 0.0
		for j := range rows {
			out[j] = squared(x.Row(rows[i]), x.Row(rows[j]))
			if below != nil {
				out[j] = min(out[j], below[j])
			}
			sum += out[j]
		}
		return out, sum
	}
	first := random.choose(cumulative(len(rows)))
	add(first)
	closest, potential := distances(first, nil)
	trials := 2 + int(math.Log(float64(k)))
	running := make([]float64, len(rows))
	at := make([]float64, trials)
	for range k - 1 {
		for t := range at {
			at[t] = random.Float64() * potential
		}
		sum := 0.0
		for j, v := range closest {
			sum += v
			running[j] = sum
		}
		var bestDistances []float64
		best, least := 0, math.Inf(1)
		for _, v := range at {
			i := min(len(rows)-1, sort.SearchFloat64s(running, v))
			if next, sum := distances(i, closest); sum < least {
				best, least, bestDistances = i, sum, next
			}
		}
		add(best)
		closest, potential = bestDistances, least
	}
	return centers
}

func squared(a, b []float32) float64 {
	b = b[:len(a)]
	sum := 0.0
	for i, v := range a {
		d := float64(v) - float64(b[i])
		sum += float64(d * d)
	}
	return sum
}

// nearest is the nearest of k centres to each of the rows named, the first of equals, and the sum of the squared
// distances. Rows are shared out over threads; the sum is in order of the rows, whatever their number.
func nearest(x Rows, rows []int, centers []float64, k int) (of []int, inertia float64) {
	d := x.Width
	half := make([]float64, k) // |c|^2 / 2
	for c := range half {
		half[c] = dotWide(centers[c*d:(c+1)*d], centers[c*d:(c+1)*d]) / 2
	}
	of = make([]int, len(rows))
	distance := make([]float64, len(rows))
	share(len(rows), 64, func(lo, hi int) {
		wide := make([]float64, d)
		for i := lo; i < hi; i++ {
			for j, v := range x.Row(rows[i]) {
				wide[j] = float64(v)
			}
			least := math.Inf(1)
			for c := range half { // |x - c|^2 = |x|^2 + 2 (|c|^2/2 - x.c)
				if v := half[c] - dotWide(wide, centers[c*d:(c+1)*d]); v < least {
					of[i], least = c, v
				}
			}
			center := centers[of[i]*d : (of[i]+1)*d]
			for j, v := range wide {
				distance[i] += float64((v - center[j]) * (v - center[j]))
			}
		}
	})
	for _, v := range distance {
		inertia += v
	}
	return of, inertia
}

// share calls each with parts of [0, n) on all threads, of at least so many.
func share(n, least int, each func(lo, hi int)) {
	parts := min(runtime.GOMAXPROCS(0), (n+least-1)/least)
	if parts <= 1 {
		each(0, n)
		return
	}
	var wg sync.WaitGroup
	for p := range parts {
		wg.Go(func() { each(p*n/parts, (p+1)*n/parts) })
	}
	wg.Wait()
}
