// Package data reads contrastive training pairs, orders them into global batches and cuts each batch into
// logical shards. All of it is pure in (configuration, files, seed, step): any coordinator rebuilds the same
// batch and the same shards, whatever the number and kind of workers.
package data

// Role says what a text is to its pair.
type Role uint8

// The roles of a text, in the order in which ties are broken.
const (
	Query Role = iota
	Positive
	Negative
)

// Text is one tokenised text of a global batch: the smallest thing that a shard holds whole.
type Text struct {
	Slot   int32   // row of the text's embedding in the gathered [R, D] matrix
	Source int32   // index of the text's source: its entry under data, or its file where entries are folders
	Row    int64   // row in its source, 0-based, before ordering
	Role   Role    //
	Index  int32   // which negative (0-based) for Negative; which positive was drawn for Positive; else 0
	Doc    uint64  // identity of the document: equal texts have equal Doc (0 for queries)
	Prompt int32   // leading tokens that belong to the instruction (left out of the pool if the run says so)
	Tokens []int32 // token ids, at least one
}

// Shard is a part of a step's batch, computed as one packed sequence of texts.
type Shard struct {
	Index int
	Texts []Text // sorted by length; ties by row, then role, then index
}

// Tokens returns T, the packed length of the shard.
func (s *Shard) Tokens() int {
	n := 0
	for i := range s.Texts {
		n += len(s.Texts[i].Tokens)
	}
	return n
}

// Header is what every worker needs to know of a step's global batch besides its own shards.
//
// Slots number the batch's texts canonically: queries 0..B-1 in batch order, positives B..2B-1, then the
// negatives of query 0, of query 1, and so on.
type Header struct {
	Step      int64
	Source    int32    // the source of a single-source batch, -1 for a mixed one
	Queries   int      // B; 0 for a language-model objective
	Negatives []int32  // [B] hard negatives of each query
	Docs      []uint64 // [R-B] document identity of slots B..R-1, for false-negative masking
	Slots     int      // R, the number of texts
	Tokens    []int32  // [shards] packed length of each shard
	Divisor   float64  // global divisor of a language-model objective (known before the backward); 0 for InfoNCE
}
