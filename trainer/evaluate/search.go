package evaluate

import (
	"fmt"
	"math"
	"runtime"
	"slices"
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
	place := places(ids)
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
					hits, err := top.hits(ids)
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

// places returns each document's place in the order of ids, so that ties need no comparison of strings.
func places(ids []string) []int32 {
	order := make([]int32, len(ids))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		switch {
		case ids[a] < ids[b]:
			return -1
		case ids[a] > ids[b]:
			return 1
		default:
			return 0
		}
	})
	place := make([]int32, len(ids))
	for at, i := range order {
		place[i] = int32(at)
	}
	return place
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
				t.add(float32(a), int32(lo+d), place)
				t.add(float32(b), int32(lo+d+1), place)
				t.add(float32(c), int32(lo+d+2), place)
				t.add(float32(e), int32(lo+d+3), place)
			}
			for ; d < hi-lo; d++ {
				t.add(float32(dot(q, docs[d*width:(d+1)*width])), int32(lo+d), place)
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

// top keeps the k best documents as a heap with the worst at its root.
type top struct {
	k      int
	scores []float32
	docs   []int32
	nan    bool
}

// worse reports whether (s, d) comes after (t, e): a lower score, or an earlier id where scores tie.
func worse(s float32, d int32, t float32, e int32, place []int32) bool {
	return s < t || s == t && place[d] < place[e]
}

func (t *top) add(score float32, doc int32, place []int32) {
	if score != score {
		t.nan = true
		return
	}
	if len(t.docs) == t.k {
		if !worse(t.scores[0], t.docs[0], score, doc, place) {
			return
		}
		t.scores[0], t.docs[0] = score, doc
		t.down(place)
		return
	}
	t.scores, t.docs = append(t.scores, score), append(t.docs, doc)
	for i := len(t.docs) - 1; i > 0; {
		up := (i - 1) / 2
		if !worse(t.scores[i], t.docs[i], t.scores[up], t.docs[up], place) {
			return
		}
		t.swap(i, up)
		i = up
	}
}

func (t *top) down(place []int32) {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(t.docs) {
			return
		}
		if r := child + 1; r < len(t.docs) && worse(t.scores[r], t.docs[r], t.scores[child], t.docs[child], place) {
			child = r
		}
		if !worse(t.scores[child], t.docs[child], t.scores[i], t.docs[i], place) {
			return
		}
		t.swap(i, child)
		i = child
	}
}

func (t *top) swap(i, j int) {
	t.scores[i], t.scores[j] = t.scores[j], t.scores[i]
	t.docs[i], t.docs[j] = t.docs[j], t.docs[i]
}

func (t *top) hits(ids []string) ([]Hit, error) {
	if t.nan {
		return nil, fmt.Errorf("a score that is not a number: %w", ErrNonFinite)
	}
	hits := make([]Hit, len(t.docs))
	for i, d := range t.docs {
		hits[i] = Hit{Document: ids[d], Score: float64(t.scores[i])}
		if math.IsInf(hits[i].Score, 0) {
			return nil, fmt.Errorf("an infinite score: %w", ErrNonFinite)
		}
	}
	slices.SortFunc(hits, Single.compare)
	return hits, nil
}
