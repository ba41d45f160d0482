package metric

import (
	"math/rand/v2"
	"testing"
)

// clouds are n rows around so many centres.
func clouds(n, width, groups int) (Rows, []int) {
	r := rand.New(rand.NewPCG(3, 0))
	centers := make([]float32, groups*width)
	for i := range centers {
		centers[i] = float32(r.NormFloat64())
	}
	x, labels := Rows{Width: width}, make([]int, n)
	for i := range labels {
		labels[i] = r.IntN(groups)
		for j := range width {
			x.Data = append(x.Data, centers[labels[i]*width+j]+2*float32(r.NormFloat64()))
		}
	}
	return x, labels
}

// BenchmarkClassification has the size of banking77: 77 labels, ten experiments.
func BenchmarkClassification(b *testing.B) {
	x, labels := clouds(10003, 384, 77)
	y, truth := clouds(3080, 384, 77)
	for b.Loop() {
		if _, err := (Classification{Train: x, TrainLabels: labels, Test: y, TestLabels: truth}).Score(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkClustering is one level of mteb's bootstrap at full size, one round.
func BenchmarkClustering(b *testing.B) {
	x, labels := clouds(4000, 384, 40)
	for b.Loop() {
		if _, err := (Clustering{X: x, Levels: [][]int{labels}, Rounds: 1}).Score(); err != nil {
			b.Fatal(err)
		}
	}
}
