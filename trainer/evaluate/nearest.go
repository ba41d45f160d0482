package evaluate

import (
	"fmt"
	"math"
	"slices"

	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/gemm"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

const (
	queryBlock    = 512  // queries that meet a block of documents while it is packed
	documentBlock = 1024 // documents of a block: a matrix of 512 x 1,024 scores is all that is ever held
)

// Nearest keeps the k best documents of each query while a corpus streams by, exactly. DESIGN.md says how: a float32
// matrix product screens, and what may be among the best by the product's error bound is scored again in float64.
type Nearest struct {
	width, k int
	queries  []float32 // [Q, width]
	lengths  []float64 // [Q] norms
	longest  float64   // norm of the longest document so far
	best     [][]candidate
	bad      []bool // [Q] some score was not finite
}

// candidate is a document by its place in the order of ids.
type candidate struct {
	score float32
	place int32
	row   int32 // of the documents of this Add whose score is still the product's; -1 = the score is exact
}

// before is the order of a ranking: by score descending, and where scores tie by id descending.
func before(a, b candidate) int {
	switch {
	case a.score > b.score || a.score == b.score && a.place > b.place:
		return -1
	case a == b:
		return 0
	}
	return 1
}

// NewNearest returns the search for queries [Q, width], which it keeps.
func NewNearest(queries []float32, width, k int) *Nearest {
	n := len(queries) / width
	s := &Nearest{width: width, k: k, queries: queries, lengths: make([]float64, n), best: make([][]candidate, n), bad: make([]bool, n)}
	for i := range s.lengths {
		s.lengths[i] = norm(queries[i*width : (i+1)*width])
	}
	return s
}

// Add scores documents [D, width]; place [D] is each one's place in the order of all ids, for ties.
func (s *Nearest) Add(p *pool.Pool, documents []float32, place []int32) {
	for i := range place {
		s.longest = math.Max(s.longest, norm(documents[i*s.width:(i+1)*s.width])) // NaN stays NaN
	}
	block := &block{Nearest: s, documents: documents, place: place}
	if len(place) > 0 {
		block.scores = make([]float32, min(queryBlock, len(s.best))*min(documentBlock, len(place)))
	}
	for lo := 0; lo < len(s.best); lo += queryBlock {
		block.run(p, lo, min(lo+queryBlock, len(s.best)))
	}
}

// Hits returns what was found, best first; sorted has the ids of all documents in order.
func (s *Nearest) Hits(sorted []string) ([][]Hit, error) {
	out := make([][]Hit, len(s.best))
	for i, found := range s.best {
		if s.bad[i] {
			return nil, fmt.Errorf("search: query %d: a score that is infinite or not a number: %w", i, ErrNonFinite)
		}
		out[i] = make([]Hit, len(found))
		for j, c := range found {
			out[i][j] = Hit{Document: sorted[c.place], Score: float64(c.score)}
		}
	}
	return out, nil
}

// block is one Add.
type block struct {
	*Nearest
	documents []float32
	place     []int32
	scores    []float32 // [queryBlock, documentBlock]
	screens   []screen
}

// screen holds what may be among a query's k best.
type screen struct {
	found []candidate
	floor float32 // products below it are out
	slack float32 // twice the bound of |product - score|
	limit int     // of found, before it is thinned
}

// run scores queries lo to hi, exclusive.
func (b *block) run(p *pool.Pool, lo, hi int) {
	for len(b.screens) < hi-lo {
		b.screens = append(b.screens, screen{})
	}
	for i := range b.screens[:hi-lo] {
		c := &b.screens[i]
		// |fl(q.d) - q.d| <= width * 2^-24 * |q| |d| to first order, whatever the order of summation (Higham, Accuracy and
		// Stability of Numerical Algorithms, 3.1); 8 more roundings and a tenth are to spare.
		bound := 1.1 * (float64(b.width) + 8) * 0x1p-24 * b.lengths[lo+i] * b.longest
		c.slack = float32(2*bound) + math.SmallestNonzeroFloat32*float32(b.width+8)
		c.floor, c.limit = float32(math.Inf(-1)), 3*b.k+64
		if c.found == nil { // room for all that may come, so that nothing grows
			c.found = make([]candidate, 0, min(c.limit, len(b.best[lo+i])+len(b.place))+1)
		}
		c.found = append(c.found[:0], b.best[lo+i]...)
		if !(b.lengths[lo+i]*b.longest < math.MaxFloat32/4) {
			c.slack = float32(math.Inf(1)) // nothing can be said of the products: all are scored again
		}
	}
	for first := 0; first < len(b.place); first += documentBlock {
		n := min(documentBlock, len(b.place)-first)
		gemm.Do(p, false, true, hi-lo, n, b.width, 1, b.queries[lo*b.width:hi*b.width], b.width,
			b.documents[first*b.width:(first+n)*b.width], b.width, 0, b.scores, n)
		p.For(hi-lo, func(i int) { b.scan(lo+i, &b.screens[i], b.scores[i*n:(i+1)*n], first) })
	}
	p.For(hi-lo, func(i int) { b.settle(lo+i, &b.screens[i]) })
}

// scan keeps of the products of documents first and following those that may count.
func (b *block) scan(query int, c *screen, products []float32, first int) {
	floor := c.floor
	for j, v := range products {
		if v < floor {
			continue // a NaN is not below anything: settle meets it
		}
		row := first + j
		c.found = append(c.found, candidate{v, b.place[row], int32(row)})
		if len(c.found) >= c.limit {
			b.thin(query, c)
			floor = c.floor
		}
	}
}

// thin drops what cannot be among the k best. If the bound leaves too many, as where all documents are alike, the exact
// scores decide.
func (b *block) thin(query int, c *screen) {
	slices.SortFunc(c.found, before)
	floor := c.found[b.k-1].score - c.slack
	kept := len(c.found)
	for kept > b.k && c.found[kept-1].score < floor {
		kept--
	}
	c.found = c.found[:kept]
	if kept > 2*b.k+32 || floor != floor {
		b.exact(query, c)
		floor = c.found[len(c.found)-1].score - c.slack
	}
	if floor > c.floor {
		c.floor = floor
	}
}

// settle scores again what is left, for the next Add or the end.
func (b *block) settle(query int, c *screen) {
	b.exact(query, c)
	b.best[query] = slices.Clone(c.found)
}

// exact replaces products by scores and keeps the k best, in order.
func (b *block) exact(query int, c *screen) {
	q := b.queries[query*b.width : (query+1)*b.width]
	var four [4][]float32
	for at := 0; at < len(c.found); at += 4 {
		some := c.found[at:min(at+4, len(c.found))]
		open := false
		for i := range four {
			f := some[min(i, len(some)-1)]
			if f.row < 0 {
				four[i] = q // its score is known; the sum is not used
				continue
			}
			open, four[i] = true, b.documents[int(f.row)*b.width:(int(f.row)+1)*b.width]
		}
		if !open {
			continue
		}
		sums := dot4(q, four)
		for i := range some {
			if some[i].row < 0 {
				continue
			}
			score := float32(sums[i])
			if score-score != 0 { // infinite or not a number
				b.bad[query], score = true, float32(math.Inf(-1))
			}
			some[i] = candidate{score, some[i].place, -1}
		}
	}
	slices.SortFunc(c.found, before)
	c.found = c.found[:min(b.k, len(c.found))]
}

// dot4 is the score of a query with four documents, before its rounding to float32.
func dot4(q []float32, d [4][]float32) (sums [4]float64) {
	n := len(q)
	d0, d1, d2, d3 := d[0][:n], d[1][:n], d[2][:n], d[3][:n]
	var a, b, c, e float64
	for i, v := range q {
		x := float64(v)
		a += x * float64(d0[i]) // the exact product of two float32: fused or not, the same bits
		b += x * float64(d1[i])
		c += x * float64(d2[i])
		e += x * float64(d3[i])
	}
	return [4]float64{a, b, c, e}
}

func norm(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}
