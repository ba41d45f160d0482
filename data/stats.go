package data

import "slices"

// Stats is what a dry run says of the data. Tokens are exact, of one epoch of every source (its first), as the
// batches take them: truncated to max_length.
type Stats struct {
	Sources      []SourceStats
	Rows         int64
	Texts        int64
	Tokens       int64
	Truncated    int64   // texts longer than max_length
	Duplicates   int64   // documents whose text occurred before in the same source
	BatchTokens  float64 // average tokens of a batch, by the sources' shares
	Negatives    float64 // average hard negatives of a query
	StepsAnEpoch float64 // steps in which every source is drawn once, on average
}

// SourceStats are the figures of one source.
type SourceStats struct {
	Name, Path string
	Format     string // one of Formats
	Limit      int    // rows of the file that are used, at most; 0 = all
	Unjudged   int    // queries of a BEIR folder without a relevant document, left out
	Rows       int64
	Skipped    int      // lines left out for errors
	Faults     []string // the first of them
	Texts      int64
	Tokens     int64
	Longest    int // tokens of the longest text, before truncation
	Truncated  int64
	Duplicates int64
	Share      float64 // of the draws
	negatives  int64
}

// Stats computes the figures from the index.
func (s *Set) Stats() Stats {
	var t Stats
	var before uint64
	for i, src := range s.sources {
		x := s.sourceStats(i)
		x.Share = float64(s.sched.bounds[i]-before) / (1 << logUnit)
		before = s.sched.bounds[i]
		x.Name, x.Path, x.Skipped, x.Faults = src.name, src.path, src.skipped, src.faults
		x.Format, x.Limit, x.Unjudged = src.layout, src.limit, src.unjudged
		t.Sources = append(t.Sources, x)
		t.Rows += x.Rows
		t.Texts += x.Texts
		t.Tokens += x.Tokens
		t.Truncated += x.Truncated
		t.Duplicates += x.Duplicates
		t.BatchTokens += x.Share * float64(s.order.Batch) * float64(x.Tokens) / float64(x.Rows)
		t.Negatives += x.Share * float64(x.negatives) / float64(x.Rows)
	}
	t.StepsAnEpoch = float64(t.Rows) / float64(s.order.Batch)
	return t
}

func (s *Set) sourceStats(i int) SourceStats {
	x := s.sources[i].index
	t := SourceStats{Rows: int64(x.rows())}
	var docs []uint64
	text := func(at int) {
		n := x.lengths[at]
		t.Texts++
		t.Longest = max(t.Longest, int(n))
		if n > uint32(s.order.MaxLength) {
			t.Truncated++
			n = uint32(s.order.MaxLength)
		}
		t.Tokens += int64(n)
	}
	for row := range uint32(x.rows()) {
		lo, hi := x.texts(row)
		positives := int(x.positives[row])
		docs = append(docs, x.hashes[lo+1:lo+1+positives]...)
		switch s.order.Texts {
		case "":
			take := min(s.order.HardNegatives, hi-lo-1-positives)
			t.negatives += int64(take)
			text(lo)
			text(lo + 1)
			for j := range take {
				text(lo + 1 + positives + j)
			}
		case "queries":
			text(lo)
		case "documents":
			for at := lo + 1; at < hi; at++ {
				text(at)
			}
		default:
			for at := lo; at < hi; at++ {
				text(at)
			}
		}
	}
	slices.Sort(docs)
	t.Duplicates = int64(len(docs) - len(slices.Compact(docs)))
	return t
}
