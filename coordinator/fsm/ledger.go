package fsm

import "time"

// Record is one committed step. Its place in the ledger is its step.
type Record struct {
	Gradient   string
	Parameters string // tree hash after the step
	Round      int64
	Shards     int // all of them, once each: a closing is a disjoint cover
	Attempt    int32
	Closing    int32
	Loss       float64
	Norm       float64
	Rate       float64
	Tokens     int64
	At         time.Time
	Batch      string // digest of the batch that was served (data.DigestBatch); "" before builds that say it
}

// ledgerBlock is how many records are copied at most when a state changes.
const ledgerBlock = 256

// Ledger is an append-only list of records that copies share: whole blocks are never changed.
type Ledger struct{ Blocks [][]Record }

// Len returns the number of records.
func (l *Ledger) Len() int64 {
	n := len(l.Blocks)
	if n == 0 {
		return 0
	}
	return int64(n-1)*ledgerBlock + int64(len(l.Blocks[n-1]))
}

// At returns the record of a step in [0, Len).
func (l *Ledger) At(step int64) Record { return l.Blocks[step/ledgerBlock][step%ledgerBlock] }

// with returns the ledger with one more record; l stays as it is.
func (l *Ledger) with(r Record) Ledger {
	blocks := append(make([][]Record, 0, len(l.Blocks)+1), l.Blocks...)
	if n := len(blocks); n == 0 || len(blocks[n-1]) == ledgerBlock {
		blocks = append(blocks, []Record{r})
	} else {
		blocks[n-1] = append(append(make([]Record, 0, len(blocks[n-1])+1), blocks[n-1]...), r)
	}
	return Ledger{blocks}
}
