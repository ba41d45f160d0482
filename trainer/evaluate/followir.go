package evaluate

// PMRR is FollowIR's pairwise measure of how rankings follow a changed instruction. changed lists by query the
// documents whose relevance changed; the ids in the runs are "<query>-og" and "<query>-changed". With the ranks
// r0 (original) and r1 (changed), a missing document having rank length + 1:
//
//	r0 >= r1: r1/r0 - 1      else: 1 - r0/r1
//
// averaged over a query's documents, then over queries. Queries in neither run are left out. Scores are compared
// in float64.
func PMRR(original, after Run, changed map[string][]string) (mean float64, perQuery map[string]float64) {
	perQuery = map[string]float64{}
	total := 0.0
	for _, query := range sortedKeys(changed) {
		og, was := original[query+"-og"]
		next, is := after[query+"-changed"]
		if !was && !is || len(changed[query]) == 0 {
			continue
		}
		before, now := ranks(og), ranks(next)
		sum := 0.0
		for _, d := range changed[query] {
			r0, r1 := before(d), now(d)
			if r0 >= r1 {
				sum += r1/r0 - 1
			} else {
				sum += 1 - r0/r1
			}
		}
		perQuery[query] = sum / float64(len(changed[query]))
		total += perQuery[query]
	}
	if len(perQuery) > 0 {
		mean = total / float64(len(perQuery))
	}
	return mean, perQuery
}

// ranks returns a function from document to rank, 1-based.
func ranks(hits []Hit) func(string) float64 {
	at := make(map[string]int, len(hits))
	for i, h := range Rank(hits, Double) {
		at[h.Document] = i + 1
	}
	return func(d string) float64 {
		if r, ok := at[d]; ok {
			return float64(r)
		}
		return float64(len(hits) + 1)
	}
}
