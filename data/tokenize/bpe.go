package tokenize

import (
	"container/heap"
	"math"
	"unicode/utf8"
)

// bpe is the model: byte pairs are merged by rank, the leftmost of equal ones first, until no merge applies
// (Sennrich et al. 2016, arXiv 1508.07909; order as in Hugging Face tokenizers' Word::merge_all).
type bpe struct {
	merges       mergeTable
	bytes        *[256]int32      // id of each byte, -1 = none; nil: units are characters
	chars        map[rune]int32   // id of each character that is a token
	fallback     *[256]int32      // id of <0x00> to <0xFF>, -1 = none; nil: no byte fallback
	unknown      int32            // -1 = unknown units are dropped, as the reference does
	fuseUnknown  bool             // unknown units in a row give one token
	whole        map[string]int32 // ignore_merges: a whole word that is a token wins; nil = off
	wholeChars   *wholeChars      // nil: begin with bytes
	cache        *wordCache
	cacheableLen int
}

// shortWord is a number of units up to which a scan for the lowest rank is faster than a heap.
const shortWord = 48

// encode appends the ids of one word.
func (m *bpe) encode(dst []int32, w string) []int32 {
	if len(w) > m.cacheableLen {
		return m.encodeWord(dst, w)
	}
	slot := m.cache.slot(w)
	if hit := slot.Load(); hit != nil && hit.word == w {
		return append(dst, hit.ids...)
	}
	start := len(dst)
	dst = m.encodeWord(dst, w)
	slot.Store(newCached(w, dst[start:]))
	return dst
}

func (m *bpe) encodeWord(dst []int32, w string) []int32 {
	if id, ok := m.whole[w]; ok {
		return append(dst, id)
	}
	start := len(dst)
	if m.wholeChars != nil {
		dst = m.wholeChars.units(dst, m.bytes, w)
	} else if m.bytes != nil {
		dst = m.byteUnits(dst, w)
	} else {
		dst = m.charUnits(dst, w)
	}
	units := dst[start:]
	if len(units) <= shortWord {
		return dst[:start+m.mergeShort(units)]
	}
	return dst[:start+m.mergeLong(units)]
}

func (m *bpe) byteUnits(dst []int32, w string) []int32 {
	start := len(dst)
	for i := range len(w) {
		id := m.bytes[w[i]]
		if id < 0 {
			if id = m.unknown; id < 0 || m.fuseUnknown && len(dst) > start && i > 0 && m.bytes[w[i-1]] < 0 {
				continue
			}
		}
		dst = append(dst, id)
	}
	return dst
}

// charUnits gives each character its token, else its bytes' tokens, else the unknown one. A pending unknown
// token comes behind the byte tokens that follow it: the reference does so, and its ids are the contract.
func (m *bpe) charUnits(dst []int32, w string) []int32 {
	pending := false
	for i, r := range w {
		if id, ok := m.chars[r]; ok {
			if pending {
				dst, pending = append(dst, m.unknown), false
			}
			dst = append(dst, id)
			continue
		}
		if m.fallback != nil && m.hasAllBytes(w[i:i+utf8.RuneLen(r)]) {
			for _, b := range []byte(w[i : i+utf8.RuneLen(r)]) {
				dst = append(dst, m.fallback[b])
			}
			continue
		}
		if m.unknown < 0 {
			continue
		}
		if pending && !m.fuseUnknown {
			dst = append(dst, m.unknown)
		}
		pending = true
	}
	if pending {
		dst = append(dst, m.unknown)
	}
	return dst
}

func (m *bpe) hasAllBytes(s string) bool {
	for i := range len(s) {
		if m.fallback[s[i]] < 0 {
			return false
		}
	}
	return true
}

// mergeShort merges in place and returns how many units are left.
func (m *bpe) mergeShort(units []int32) int {
	n := len(units)
	var ranks [shortWord]uint32 // of the pair (i, i+1)
	var result [shortWord]int32
	for i := 0; i+1 < n; i++ {
		ranks[i], result[i] = m.merges.find(units[i], units[i+1])
	}
	for {
		best, at := uint32(noRank), -1
		for i := 0; i+1 < n; i++ {
			if ranks[i] < best {
				best, at = ranks[i], i
			}
		}
		if at < 0 {
			return n
		}
		units[at] = result[at]
		copy(units[at+1:], units[at+2:n])
		copy(ranks[at+1:], ranks[at+2:n])
		copy(result[at+1:], result[at+2:n])
		n--
		if at+1 < n {
			ranks[at], result[at] = m.merges.find(units[at], units[at+1])
		}
		if at > 0 {
			ranks[at-1], result[at-1] = m.merges.find(units[at-1], units[at])
		}
	}
}

// mergeRanked merges a few units in place and returns how many are left and the highest rank of a merge.
func (m *bpe) mergeRanked(units []int32) (left int, highest uint32) {
	for {
		best, at, result := uint32(noRank), -1, int32(-1)
		for i := 0; i+1 < len(units); i++ {
			if rank, id := m.merges.find(units[i], units[i+1]); rank < best {
				best, at, result = rank, i, id
			}
		}
		if at < 0 {
			return len(units), highest
		}
		highest = max(highest, best)
		units[at] = result
		units = append(units[:at+1], units[at+2:]...)
	}
}

// candidate is a possible merge of the unit at position at with its neighbour, as they were when it was found.
type candidate struct {
	rank        uint32
	at          int32
	left, right int32
	result      int32
}

type candidates []candidate

func (c candidates) Len() int      { return len(c) }
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c candidates) Less(i, j int) bool {
	return c[i].rank < c[j].rank || c[i].rank == c[j].rank && c[i].at < c[j].at
}
func (c *candidates) Push(x any) { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// mergeLong merges in O(n log n) by a heap of candidates over a linked list, then compacts.
func (m *bpe) mergeLong(units []int32) int {
	n := int32(len(units))
	next, prev := make([]int32, n), make([]int32, n)
	var queue candidates
	find := func(at int32) {
		if next[at] < n {
			left, right := units[at], units[next[at]]
			if rank, result := m.merges.find(left, right); rank != noRank {
				queue = append(queue, candidate{rank, at, left, right, result})
			}
		}
	}
	for i := range n {
		next[i], prev[i] = i+1, i-1
	}
	for i := range n {
		find(i)
	}
	heap.Init(&queue)
	for len(queue) > 0 {
		c := heap.Pop(&queue).(candidate)
		after := next[c.at]
		if units[c.at] != c.left || after >= n || units[after] != c.right {
			continue // merged away meanwhile
		}
		units[c.at], units[after] = c.result, -1
		next[c.at] = next[after]
		if next[after] < n {
			prev[next[after]] = c.at
		}
		for _, at := range []int32{prev[c.at], c.at} {
			if at < 0 {
				continue
			}
			size := len(queue)
			if find(at); len(queue) > size {
				heap.Fix(&queue, size)
			}
		}
	}
	left := 0
	for i := int32(0); i < n; i = next[i] {
		units[left] = units[i]
		left++
	}
	return left
}

// mergeTable maps a pair of ids to its rank and result: open addressing, never full. A slot is the pair and the rank in
// one word, since what merging costs is the memory that looking up pairs touches; most of them are not there, which a
// bitmap tells first.
type mergeTable struct {
	slots   []uint64 // left<<42 | right<<20 | rank, plus one, so that zero is an empty slot
	shift   uint
	maybe   []uint64 // bit of a pair's hash: some pair has it
	bits    uint     // 64 - the logarithm of its bits
	results []int32  // by rank
}

const (
	noRank = math.MaxUint32

	rankBits  = 20 // so at most 1,048,575 merges
	idBits    = 22 // and ids below 4,194,304
	maxMerges = 1<<rankBits - 1
	maxID     = 1<<idBits - 1
)

func newMergeTable(count int) mergeTable {
	bits := uint(4)
	for 1<<bits < count+count/2 {
		bits++
	}
	return mergeTable{slots: make([]uint64, 1<<bits), shift: 64 - bits, maybe: make([]uint64, 1<<(bits+3)/64), bits: 64 - bits - 3, results: make([]int32, count)}
}

func mergeKey(left, right int32) (key, hash uint64) {
	key = uint64(uint32(left))<<(idBits+rankBits) | uint64(uint32(right))<<rankBits
	hash = key >> rankBits * 0x9e3779b97f4a7c15
	return key, hash ^ hash>>32*0x9e3779b97f4a7c15
}

// add puts a merge in; of two of the same pair the later one holds.
func (t *mergeTable) add(left, right int32, rank uint32, result int32) {
	key, hash := mergeKey(left, right)
	t.maybe[hash>>t.bits>>6] |= 1 << (hash >> t.bits & 63)
	i := hash >> t.shift
	for t.slots[i] != 0 && (t.slots[i]-1)>>rankBits != key>>rankBits {
		i = (i + 1) & uint64(len(t.slots)-1)
	}
	t.slots[i] = (key | uint64(rank)) + 1
	t.results[rank] = result
}

func (t *mergeTable) find(left, right int32) (rank uint32, result int32) {
	key, hash := mergeKey(left, right)
	if t.maybe[hash>>t.bits>>6]>>(hash>>t.bits&63)&1 == 0 {
		return noRank, -1
	}
	return t.look(key, hash)
}

func (t *mergeTable) look(key, hash uint64) (rank uint32, result int32) {
	for i := hash >> t.shift; ; i = (i + 1) & uint64(len(t.slots)-1) {
		s := t.slots[i]
		if s == 0 {
			return noRank, -1
		}
		if s--; s>>rankBits == key>>rankBits {
			rank = uint32(s & maxMerges)
			return rank, t.results[rank]
		}
	}
}
