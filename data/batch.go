package data

import "fmt"

// Batch is the global batch of one step: its header, and its shards to be read one by one.
type Batch struct {
	Header Header
	Draws  []Draw // [B] the rows in batch order
	pack   pack
	set    *Set
}

// batchesKept lets several shards of the same few steps be asked for without building the batch again.
const batchesKept = 4

// Batch returns the global batch of a step: a pure function of the sources, the Order and the step.
func (s *Set) Batch(step int64) (*Batch, error) {
	if step < 0 {
		return nil, fmt.Errorf("batch of step %d; steps begin at 0", step)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		if b.Header.Step == step {
			return b, nil
		}
	}
	b := &Batch{set: s, Draws: s.draws(step), pack: pack{sources: s.sources, tok: s.tok, max: s.order.MaxLength}}
	b.Header = Header{Step: step, Source: b.Draws[0].Source}
	for _, d := range b.Draws {
		if d.Source != b.Header.Source {
			b.Header.Source = -1
		}
	}
	var refs []ref
	if s.order.Texts == "" {
		refs = b.pairs()
	} else {
		refs = b.texts()
	}
	b.Header.Slots = len(refs)
	b.Header.Tokens = b.pack.pack(refs, s.shardTokens)
	if s.batches = append(s.batches, b); len(s.batches) > batchesKept {
		s.batches = s.batches[1:]
	}
	return b, nil
}

// pairs lists query, positive and hard negatives of each row, and fills the header for InfoNCE.
func (b *Batch) pairs() []ref {
	n := len(b.Draws)
	h := &b.Header
	h.Queries = n
	h.Negatives = make([]int32, n)
	refs := make([]ref, 2*n, (2+b.set.order.HardNegatives)*n)
	for i, d := range b.Draws {
		row := uint32(d.Row)
		x := b.set.sources[d.Source].index
		lo, hi := x.texts(row)
		positives := int(x.positives[row])
		negatives := hi - lo - 1 - positives
		drawn := rotation(d.Epoch, 1, positives)
		refs[i] = b.pack.ref(i, d.Source, row, 0, Query, 0)
		refs[n+i] = b.pack.ref(n+i, d.Source, row, 1+drawn, Positive, drawn)
		take := min(b.set.order.HardNegatives, negatives)
		from := rotation(d.Epoch, b.set.order.HardNegatives, max(1, negatives))
		for j := range take {
			which := (from + j) % negatives
			refs = append(refs, b.pack.ref(len(refs), d.Source, row, 1+positives+which, Negative, which))
		}
		h.Negatives[i] = int32(take)
	}
	h.Docs = make([]uint64, len(refs)-n)
	for i := range h.Docs {
		h.Docs[i] = refs[n+i].doc
	}
	return refs
}

// texts lists the rows' texts for a language objective, and fills the header's divisor.
func (b *Batch) texts() []ref {
	var refs []ref
	for _, d := range b.Draws {
		row := uint32(d.Row)
		src := b.set.sources[d.Source]
		lo, hi := src.texts(row)
		rec := record{queries: 1, positives: int(src.positives[row])}
		from, to := 0, hi-lo
		switch b.set.order.Texts {
		case "queries":
			to = 1
		case "documents":
			from = 1
		}
		for i := from; i < to; i++ {
			role, index := rec.role(i)
			refs = append(refs, b.pack.ref(len(refs), d.Source, row, i, role, int(index)))
		}
	}
	var sum int64
	for i := range refs {
		switch o := &b.set.order; {
		case o.Terms != nil:
			sum += int64(o.Terms(b.Header.Step, int32(i), int(refs[i].tokens)))
		case o.Predicted:
			sum += int64(refs[i].tokens) - 1
		default:
			sum += int64(refs[i].tokens)
		}
	}
	b.Header.Divisor = float64(max(1, sum))
	return refs
}

// Header returns the header of a step's batch.
func (s *Set) Header(step int64) (Header, error) {
	b, err := s.Batch(step)
	if err != nil {
		return Header{}, err
	}
	return b.Header, nil
}

// Shards reads and tokenises the shards of those indices of a step's batch, in the order asked for.
func (s *Set) Shards(step int64, indices []int) ([]Shard, error) {
	b, err := s.Batch(step)
	if err != nil {
		return nil, err
	}
	return b.pack.shards(indices)
}

// Shard reads and tokenises shard i of the batch. It may be called from several goroutines.
func (b *Batch) Shard(i int) (Shard, error) { return b.pack.shard(i) }

// Rows names the rows that have texts in shard i, for messages: file and line.
func (b *Batch) Rows(i int) []string {
	var out []string
	seen := map[string]bool{}
	for _, r := range b.pack.refs[b.pack.cuts[i]:b.pack.cuts[i+1]] {
		if w := b.pack.sources[r.source].where(r.row); !seen[w] {
			seen[w] = true
			out = append(out, w)
		}
	}
	return out
}
