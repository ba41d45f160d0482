package evaluate

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// Search returns the k best documents of each query by inner product, best first, exactly: queries [Q, width],
// documents [D, width], ids [D]. The score is
//
//	float32(sum over i of q_i * d_i)
//
// with the products, which are exact, added in float64 in order of i; equal scores are ordered by document,
// descending. It does not depend on the number of threads or on the kind of processor. A score that is not a number or
// infinite is an error.
func Search(queries, documents []float32, width int, ids []string, k int) ([][]Hit, error) {
	if width < 1 || len(queries)%width != 0 || len(documents) != len(ids)*width || k < 1 {
		return nil, fmt.Errorf("search %d documents: %d and %d values of width %d, k %d", len(ids), len(queries), len(documents), width, k)
	}
	threads := pool.New(runtime.GOMAXPROCS(0))
	defer threads.Close()
	return search(threads, queries, documents, width, ids, k)
}

func search(threads *pool.Pool, queries, documents []float32, width int, ids []string, k int) ([][]Hit, error) {
	place, sorted := places(ids)
	n := NewNearest(queries, width, k)
	n.Add(threads, documents, place)
	return n.Hits(sorted)
}

// places returns each document's place in the order of ids, so that ties need no comparison of strings, and the
// ids in that order.
func places(ids []string) (place []int32, sorted []string) {
	order := make([]int32, len(ids))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return strings.Compare(ids[a], ids[b]) })
	place, sorted = make([]int32, len(ids)), make([]string, len(ids))
	for at, i := range order {
		place[i], sorted[at] = int32(at), ids[i]
	}
	return place, sorted
}
