package evaluate

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/pool"
)

// Retrieve returns the documents that Score scores: the 1,000 best of each query, of its pool where it has one, without
// those that it excludes. rows [Q+D, width] are in slot order.
func Retrieve(sheet *data.Sheet, rows []float32, width int) (Run, error) {
	q, d := len(sheet.Queries), len(sheet.Documents)
	if width < 1 || len(rows) != (q+d)*width {
		return nil, fmt.Errorf("score suite %s: %d values of width %d for %d queries and %d documents", sheet.Name, len(rows), width, q, d)
	}
	r := NewRetrieval(sheet, rows[:q*width], width)
	defer r.Close()
	if err := r.Add(rows[q*width:]); err != nil {
		return nil, err
	}
	return r.Run()
}

// Retrieval retrieves while a suite's documents stream by: of them it holds only what a pool asks for.
type Retrieval struct {
	sheet   *data.Sheet
	width   int
	queries []float32
	threads *pool.Pool

	nearest *Nearest
	place   []int32
	sorted  []string
	seen    int // documents added

	pooled map[string][]float32 // rows of documents that some pool has; nil without pools
}

// NewRetrieval begins with the embeddings of the queries, [Q, width], which it keeps. Close it in the end.
func NewRetrieval(sheet *data.Sheet, queries []float32, width int) *Retrieval {
	r := &Retrieval{sheet: sheet, width: width, queries: queries, threads: pool.New(runtime.GOMAXPROCS(0))}
	if sheet.Pools != nil {
		r.pooled = map[string][]float32{}
		for _, ids := range sheet.Pools {
			for _, id := range ids {
				r.pooled[id] = nil
			}
		}
		return r
	}
	k := depth
	if sheet.Exclusion == data.RemoveExcluded {
		for _, out := range sheet.Excluded {
			k = max(k, depth+len(out))
		}
	}
	r.place, r.sorted = places(sheet.Documents)
	r.nearest = NewNearest(queries, width, k)
	return r
}

// Add takes the embeddings of the next documents in slot order, [n, width].
func (r *Retrieval) Add(rows []float32) error {
	n := len(rows) / r.width
	if len(rows)%r.width != 0 || r.seen+n > len(r.sheet.Documents) {
		return fmt.Errorf("score suite %s: %d values of width %d after %d of %d documents", r.sheet.Name, len(rows), r.width, r.seen, len(r.sheet.Documents))
	}
	if r.pooled == nil {
		r.nearest.Add(r.threads, rows, r.place[r.seen:r.seen+n])
	} else {
		for i, id := range r.sheet.Documents[r.seen : r.seen+n] {
			if _, ok := r.pooled[id]; ok {
				r.pooled[id] = slices.Clone(rows[i*r.width : (i+1)*r.width])
			}
		}
	}
	r.seen += n
	return nil
}

// Run returns what was retrieved, when all documents have been added.
func (r *Retrieval) Run() (Run, error) {
	if r.seen != len(r.sheet.Documents) {
		return nil, fmt.Errorf("score suite %s: %d of %d documents", r.sheet.Name, r.seen, len(r.sheet.Documents))
	}
	if r.pooled != nil {
		return r.pools()
	}
	found, err := r.nearest.Hits(r.sorted)
	if err != nil {
		return nil, fmt.Errorf("score suite %s: %w", r.sheet.Name, err)
	}
	run := make(Run, len(found))
	for i, id := range r.sheet.Queries {
		run[id] = found[i]
	}
	return r.exclude(run), nil
}

// Close ends the threads.
func (r *Retrieval) Close() { r.threads.Close() }

// exclude does with the documents that queries exclude what the suite says.
func (r *Retrieval) exclude(run Run) Run {
	if len(r.sheet.Excluded) == 0 {
		return run
	}
	rule := map[string]Exclusion{data.RemoveExcluded: RemovedBeforeCut, data.ZeroExcluded: ZeroedAfterCut, data.KeepExcluded: Kept}[r.sheet.Exclusion]
	return CutExcluding(run, r.sheet.Excluded, rule, Single, depth)
}

// pools ranks each query's own documents. A query without a pool is not in the run; documents of a pool that the corpus
// does not have are not retrieved.
func (r *Retrieval) pools() (Run, error) {
	run := Run{}
	for i, query := range r.sheet.Queries {
		var ids []string
		var rows []float32
		listed := map[string]bool{}
		if r.sheet.Exclusion == data.RemoveExcluded {
			listed = excludedSet(r.sheet.Excluded[query])
		}
		for _, id := range r.sheet.Pools[query] {
			if row := r.pooled[id]; row != nil && !listed[id] { // each once, however often the pool lists it
				listed[id] = true
				ids, rows = append(ids, id), append(rows, row...)
			}
		}
		if len(ids) == 0 {
			continue
		}
		found, err := search(nil, r.queries[i*r.width:(i+1)*r.width], rows, r.width, ids, depth)
		if err != nil {
			return nil, fmt.Errorf("score suite %s: query %s: %w", r.sheet.Name, query, err)
		}
		run[query] = found[0]
	}
	return r.exclude(run), nil
}
