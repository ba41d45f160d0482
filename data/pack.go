package data

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"sort"
)

// ref is a text of a batch before it is read.
type ref struct {
	slot   int32
	source int32
	row    uint32
	text   int32 // which of the row's texts
	role   Role
	index  int32
	tokens int32 // truncated length
	doc    uint64
}

// pack is a set of texts cut into shards.
type pack struct {
	sources []*source
	tok     Tokenizer
	max     int   // tokens a text
	query   int   // tokens a query; 0 = max
	refs    []ref // sorted by length; ties by source, row, role, index
	cuts    []int // shard i is refs[cuts[i]:cuts[i+1]]
}

// limit returns how many tokens a text of a role may have.
func (p *pack) limit(role Role) int {
	if role == Query && p.query > 0 {
		return p.query
	}
	return p.max
}

// ref makes the reference of text i of a row.
func (p *pack) ref(slot int, source int32, row uint32, i int, role Role, index int) ref {
	x := p.sources[source].index
	lo, _ := x.texts(row)
	r := ref{
		slot: int32(slot), source: source, row: row, text: int32(i), role: role, index: int32(index),
		tokens: int32(min(x.lengths[lo+i], uint32(p.limit(role)))),
	}
	if role != Query {
		r.doc = x.hashes[lo+i]
	}
	return r
}

// pack sorts the texts and cuts them into the fewest shards of at most limit tokens (a longer text is a shard of
// its own), then makes the longest of that many shards as short as it can be. It returns each shard's length.
func (p *pack) pack(refs []ref, limit int) []int32 {
	slices.SortFunc(refs, func(a, b ref) int {
		return cmp.Or(cmp.Compare(a.tokens, b.tokens), cmp.Compare(a.source, b.source), cmp.Compare(a.row, b.row),
			cmp.Compare(a.role, b.role), cmp.Compare(a.index, b.index), cmp.Compare(a.slot, b.slot))
	})
	p.refs = refs
	longest := 0
	if len(refs) > 0 {
		longest = int(refs[len(refs)-1].tokens)
	}
	fewest := len(fill(refs, limit))
	low := min(limit, longest)
	best := low + sort.Search(max(0, limit-low), func(i int) bool { return len(fill(refs, low+i)) <= fewest })
	lengths := fill(refs, best)
	p.cuts = make([]int, 1, len(lengths)+1)
	for i, at := 0, 0; i < len(lengths); i++ {
		for left := lengths[i]; left > 0; at++ {
			left -= refs[at].tokens
		}
		p.cuts = append(p.cuts, at)
	}
	return lengths
}

// fill cuts texts in order into shards of at most limit tokens and returns their lengths. No cut of texts in
// this order has fewer shards.
func fill(refs []ref, limit int) []int32 {
	var out []int32
	left := 0
	for i := range refs {
		n := int(refs[i].tokens)
		if n > left || len(out) == 0 {
			out = append(out, 0)
			left = limit
		}
		out[len(out)-1] += int32(n)
		left -= n
	}
	return out
}

// shard reads and tokenises the texts of one shard.
func (p *pack) shard(i int) (Shard, error) {
	if i < 0 || i >= len(p.cuts)-1 {
		return Shard{}, fmt.Errorf("shard %d of %d", i, len(p.cuts)-1)
	}
	refs := p.refs[p.cuts[i]:p.cuts[i+1]]
	out := Shard{Index: i, Texts: make([]Text, len(refs))}
	type place struct {
		source int32
		row    uint32
	}
	records := make(map[place]record, len(refs))
	prompts := map[string]int32{"": 0}
	var buf []int32
	for j, r := range refs {
		src := p.sources[r.source]
		rec, ok := records[place{r.source, r.row}]
		if !ok {
			var err error
			if rec, err = src.record(r.row); err != nil {
				return Shard{}, err
			}
			records[place{r.source, r.row}] = rec
		}
		if err := src.check(r.row, &rec, int(r.text)); err != nil {
			return Shard{}, err
		}
		prefix := src.prefix(&rec, int(r.text))
		prompt, ok := prompts[prefix]
		if !ok {
			buf = p.tok.Encode(buf[:0], prefix)
			prompt = int32(len(buf))
			prompts[prefix] = prompt
		}
		if buf, ok = src.tokens.read(buf[:0], src.index, r.row, int(r.text)); !ok {
			buf = src.encode(buf[:0], p.tok, &rec, int(r.text))
		}
		if len(buf) < int(r.tokens) || len(buf) > int(r.tokens) && int(r.tokens) != p.limit(r.role) {
			return Shard{}, fmt.Errorf("tokenise %s: %d tokens, where the index has %d: the tokenizer is not the one of the index", src.where(r.row), len(buf), r.tokens)
		}
		out.Texts[j] = Text{
			Slot: r.slot, Source: r.source, Row: int64(r.row), Role: r.role, Index: r.index, Doc: r.doc,
			Prompt: min(prompt, r.tokens-1), Tokens: slices.Clone(buf[:r.tokens]),
		}
	}
	return out, nil
}

// shards reads several shards.
func (p *pack) shards(indices []int) ([]Shard, error) {
	out := make([]Shard, len(indices))
	for i, index := range indices {
		var err error
		if out[i], err = p.shard(index); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// The default packed length of a shard lies between these.
const (
	minShardTokens = 2048
	minWholeTokens = 4096 // when all parameters train: a gradient is rounded and added once a shard, however short
	maxShardTokens = 32768
)

// shardSize is the default shard_tokens for batches of so many tokens on average, of the least size.
func shardSize(batch, least float64) int {
	return bucket(int(min(max(batch/64, least), maxShardTokens)))
}

// bucket rounds up to an eighth of the power of two below: at most 12.5 % more, and few sizes.
func bucket(n int) int {
	step := 1 << max(0, bits.Len(uint(n))-4)
	return (n + step - 1) / step * step
}
