package evaluate

import "fmt"

// Exclusion is what is done with the documents that a query's excluded_ids name (BRIGHT). Published numbers differ in
// it. A relevant document that is excluded stays in the judgments.
type Exclusion uint8

const (
	// RemovedBeforeCut is BRIGHT's own code: drop them, then keep the best k.
	RemovedBeforeCut Exclusion = iota
	// RemovedAfterCut keeps the best k, then drops them, so that fewer than k remain.
	RemovedAfterCut
	// ZeroedAfterCut keeps the best k and then sets their scores to 0, as DiffEmbed's fork of mteb does: where scores are
	// negative an excluded document overtakes others.
	ZeroedAfterCut
	// Kept leaves them in, as mteb's first BRIGHT does.
	Kept
)

var exclusions = []string{"removed_before_cut", "removed_after_cut", "zeroed_after_cut", "none"}

func (x Exclusion) String() string { return exclusions[x] }

// ParseExclusion reads the name of an Exclusion.
func ParseExclusion(name string) (Exclusion, error) {
	for i, known := range exclusions {
		if name == known {
			return Exclusion(i), nil
		}
	}
	return 0, fmt.Errorf("exclusion %q; %v are allowed", name, exclusions)
}

// CutExcluding keeps the best k hits of each query under an exclusion. Ids that are not among the hits, and the
// sentinel N/A, are ignored.
func CutExcluding(run Run, excluded map[string][]string, x Exclusion, p Precision, k int) Run {
	switch x {
	case RemovedBeforeCut:
		return Cut(Exclude(run, excluded), p, k)
	case RemovedAfterCut:
		return Exclude(Cut(run, p, k), excluded)
	case ZeroedAfterCut:
		out := Cut(run, p, k)
		for query, hits := range out {
			drop := excludedSet(excluded[query])
			for i := range hits {
				if drop[hits[i].Document] {
					hits[i].Score = 0
				}
			}
		}
		return out
	}
	return Cut(run, p, k)
}

func excludedSet(ids []string) map[string]bool {
	drop := make(map[string]bool, len(ids))
	for _, id := range ids {
		drop[id] = id != "N/A"
	}
	return drop
}

// Exclude drops from each query's hits the documents listed for it.
// Ids that are not among the hits are ignored.
func Exclude(run Run, excluded map[string][]string) Run {
	out := Run{}
	for query, hits := range run {
		drop := excludedSet(excluded[query])
		kept := make([]Hit, 0, len(hits))
		for _, h := range hits {
			if !drop[h.Document] {
				kept = append(kept, h)
			}
		}
		out[query] = kept
	}
	return out
}

// Cut keeps the best k hits of each query.
func Cut(run Run, p Precision, k int) Run {
	out := Run{}
	for query, hits := range run {
		ranked := Rank(hits, p)
		out[query] = ranked[:min(k, len(ranked))]
	}
	return out
}
