package evaluate

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
)

const (
	queryBlock    = 32  // queries that meet a block of documents while it is in cache
	documentBlock = 256 // documents of a block
)

// Search returns the k best documents of each query by inner product, best first, exactly: queries [Q, width],
// documents [D, width], ids [D]. The score is
//
//	float32(sum over i of q_i * d_i)
//
// with the products, which are exact, added in float64 in order of i; equal scores are ordered by document,
// descending. Products are taken block by block and only k of them kept per query, never a matrix [Q, D]. The
// result does not depend on the number of threads. A score that is not a number is an error.
func Search(queries, documents []float32, width int, ids []string, k int) ([][]Hit, error) {
	if width < 1 || len(queries)%width != 0 || len(documents) != len(ids)*width || k < 1 {
		return nil, fmt.Errorf("search %d documents: %d and %d values of width %d, k %d", len(ids), len(queries), len(documents), width, k)
	}
	n := len(queries) / width
	place, sorted := places(ids)
	out := make([][]Hit, n)
	blocks := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for lo := range blocks {
				hi := min(lo+queryBlock, n)
				tops := searchBlock(queries[lo*width:hi*width], documents, width, place, k)
				for i, top := range tops {
					hits, err := top.hits(sorted)
					if err != nil {
						mu.Lock()
						failed = fmt.Errorf("search: query %d: %w", lo+i, err)
						mu.Unlock()
					}
					out[lo+i] = hits
				}
			}
		})
	}
	for lo := 0; lo < n; lo += queryBlock {
		blocks <- lo
	}
	close(blocks)
	wg.Wait()
	return out, failed
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

// searchBlock scores a block of queries against all documents.
func searchBlock(queries, documents []float32, width int, place []int32, k int) []*top {
	wide := widen(nil, queries)
	tops := make([]*top, len(queries)/width)
	for i := range tops {
		tops[i] = &top{k: min(k, len(place))}
	}
	var docs []float64
	for lo := 0; lo < len(place); lo += documentBlock {
		hi := min(lo+documentBlock, len(place))
		docs = widen(docs[:0], documents[lo*width:hi*width])
		for i, t := range tops {
			q := wide[i*width : (i+1)*width]
			d := 0
			for ; d+4 <= hi-lo; d += 4 {
				a, b, c, e := dot4(q, docs[d*width:(d+4)*width])
				t.add(float32(a), place[lo+d])
				t.add(float32(b), place[lo+d+1])
				t.add(float32(c), place[lo+d+2])
				t.add(float32(e), place[lo+d+3])
			}
			for ; d < hi-lo; d++ {
				t.add(float32(dot(q, docs[d*width:(d+1)*width])), place[lo+d])
			}
		}
	}
	return tops
}

func widen(dst []float64, src []float32) []float64 {
	for _, v := range src {
		dst = append(dst, float64(v))
	}
	return dst
}

func dot(q, d []float64) float64 {
	sum := 0.0
	for i, v := range q {
		sum += v * d[i] // exact product of two float32: fused or not, the same bits
	}
	return sum
}

// dot4 is dot with four documents, one after another in d.
func dot4(q, d []float64) (a, b, c, e float64) {
	n := len(q)
	d0, d1, d2, d3 := d[:n], d[n:2*n], d[2*n:3*n], d[3*n:4*n]
	for i, v := range q {
		a += v * d0[i]
		b += v * d1[i]
		c += v * d2[i]
		e += v * d3[i]
	}
	return a, b, c, e
}

// top keeps the k best documents: all of them until there are k, then as a heap with the worst at its root.
type top struct {
	k     int
	found []candidate
	nan   bool
}

// candidate is a document by its place in the order of ids.
type candidate struct {
	score float32
	place int32
}

// after reports whether a is ranked after b: by a lower score, or by an earlier id where scores tie.
func (a candidate) after(b candidate) bool {
	return a.score < b.score || a.score == b.score && a.place < b.place
}

func (t *top) add(score float32, place int32) {
	c := candidate{score, place}
	switch {
	case score != score:
		t.nan = true
	case len(t.found) < t.k:
		if t.found = append(t.found, c); len(t.found) == t.k {
			for i := t.k/2 - 1; i >= 0; i-- {
				t.down(i)
			}
		}
	case t.found[0].after(c):
		t.found[0] = c
		t.down(0)
	}
}

// down restores the heap below i.
func (t *top) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(t.found) {
			return
		}
		if r := child + 1; r < len(t.found) && t.found[r].after(t.found[child]) {
			child = r
		}
		if !t.found[child].after(t.found[i]) {
			return
		}
		t.found[i], t.found[child] = t.found[child], t.found[i]
		i = child
	}
}

// hits returns the documents best first; sorted has the ids in order.
func (t *top) hits(sorted []string) ([]Hit, error) {
	slices.SortFunc(t.found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(b.place, a.place))
	})
	hits := make([]Hit, len(t.found))
	for i, c := range t.found {
		hits[i] = Hit{Document: sorted[c.place], Score: float64(c.score)}
		if math.IsInf(hits[i].Score, 0) {
			return nil, fmt.Errorf("an infinite score: %w", ErrNonFinite)
		}
	}
	if t.nan {
		return nil, fmt.Errorf("a score that is not a number: %w", ErrNonFinite)
	}
	return hits, nil
}
