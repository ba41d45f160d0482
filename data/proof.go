package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math"
)

// Member is a text of a batch without its content: which one it is, and its length.
type Member struct {
	Slot, Source int32
	Row          int64
	Role         Role
	Index        int32
	Doc          uint64
	Tokens       int
}

// Members lists the texts of shard i as they were cut, without reading any.
func (b *Batch) Members(i int) []Member {
	refs := b.pack.refs[b.pack.cuts[i]:b.pack.cuts[i+1]]
	out := make([]Member, len(refs))
	for j, r := range refs {
		out[j] = Member{Slot: r.slot, Source: r.source, Row: int64(r.row), Role: r.role, Index: r.index, Doc: r.doc, Tokens: int(r.tokens)}
	}
	return out
}

// Digest identifies the batch: its header, and which texts of which lengths lie in which shard. The texts' content is
// in the data's own digest.
func (b *Batch) Digest() string {
	return digestBatch(&b.Header, b.Members)
}

// DigestBatch is Batch.Digest of a batch that was read: what was served.
func DigestBatch(h *Header, shards []Shard) string {
	return digestBatch(h, func(i int) []Member {
		if i >= len(shards) {
			return nil
		}
		out := make([]Member, len(shards[i].Texts))
		for j, t := range shards[i].Texts {
			out[j] = Member{Slot: t.Slot, Source: t.Source, Row: t.Row, Role: t.Role, Index: t.Index, Doc: t.Doc, Tokens: len(t.Tokens)}
		}
		return out
	})
}

func digestBatch(h *Header, members func(shard int) []Member) string {
	w := integers{sha256.New()}
	w.write(h.Step, int64(h.Source), int64(h.Queries), int64(h.Slots), int64(math.Float64bits(h.Divisor)), int64(len(h.Negatives)), int64(len(h.Docs)), int64(len(h.Tokens)))
	for _, n := range h.Negatives {
		w.write(int64(n))
	}
	for _, d := range h.Docs {
		w.write(int64(d))
	}
	for i, n := range h.Tokens {
		w.write(int64(n))
		for _, m := range members(i) {
			w.write(int64(m.Slot), int64(m.Source), m.Row, int64(m.Role), int64(m.Index), int64(m.Doc), int64(m.Tokens))
		}
	}
	return hex.EncodeToString(w.Sum(nil)[:16])
}

// integers hashes integers.
type integers struct{ hash.Hash }

func (w integers) write(values ...int64) {
	var b [8]byte
	for _, v := range values {
		binary.LittleEndian.PutUint64(b[:], uint64(v))
		w.Write(b[:])
	}
}

// Used returns the rows of a source, and how many of them each of its epochs draws: all, but for a remainder that is
// dropped.
func (s *Set) Used(source int) (rows, used int64) {
	return int64(s.sources[source].rows()), int64(s.used(source))
}
