package main

import (
	"container/heap"
	"fmt"
	"sort"
)

// specials come first in the vocabulary, so that their ids do not depend on the texts.
var specials = []string{"<|pad|>", "<|mask|>", "<|bos|>", "<|eos|>"}

// byteRunes is GPT-2's visible character for each byte.
func byteRunes() (table [256]rune) {
	moved := rune(0x100)
	for b := range table {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			table[b] = rune(b)
		} else {
			table[b] = moved
			moved++
		}
	}
	return table
}

type vocabulary struct {
	tokens []string // by id
	merges [][2]string
}

// pair is two neighbouring tokens.
type pair [2]int32

// trainingWord is a distinct word as its tokens so far.
type trainingWord struct {
	tokens []int32
	count  int
}

// training counts every pair and knows which words may hold it.
type training struct {
	words  []trainingWord
	counts map[pair]int
	where  map[pair][]int // indices of words; may name a word twice, or one that lost the pair
	queue  pairQueue
}

// leastCount is how often a pair must occur to become a token.
const leastCount = 2

// train merges the most frequent pair until the vocabulary has size tokens; of equally frequent pairs the one
// with the smaller ids.
func train(counts map[string]int, size int) (*vocabulary, error) {
	v := &vocabulary{tokens: append([]string(nil), specials...)}
	ids := map[string]int32{}
	visible := byteRunes()
	order := make([]int, 256)
	for b := range order {
		order[b] = b
	}
	sort.Slice(order, func(i, j int) bool { return visible[order[i]] < visible[order[j]] })
	var byteIDs [256]int32
	for _, b := range order {
		byteIDs[b] = int32(len(v.tokens))
		v.tokens = append(v.tokens, string(visible[b]))
	}
	if size < len(v.tokens) {
		return nil, fmt.Errorf("size %d, at least %d needed for the bytes and special tokens", size, len(v.tokens))
	}
	for id, token := range v.tokens {
		ids[token] = int32(id)
	}
	t := newTraining(counts, &byteIDs)
	for len(v.tokens) < size {
		best, ok := t.next()
		if !ok {
			return nil, fmt.Errorf("the texts give %d tokens only, want %d", len(v.tokens), size)
		}
		left, right := v.tokens[best[0]], v.tokens[best[1]]
		id, known := ids[left+right] // two ways may lead to one token
		if !known {
			id = int32(len(v.tokens))
			ids[left+right] = id
			v.tokens = append(v.tokens, left+right)
		}
		v.merges = append(v.merges, [2]string{left, right})
		t.merge(best, id)
	}
	return v, nil
}

func newTraining(counts map[string]int, byteIDs *[256]int32) *training {
	t := &training{counts: map[pair]int{}, where: map[pair][]int{}}
	names := make([]string, 0, len(counts))
	for w := range counts {
		names = append(names, w)
	}
	sort.Strings(names)
	for i, name := range names {
		w := trainingWord{count: counts[name]}
		for _, b := range []byte(name) {
			w.tokens = append(w.tokens, byteIDs[b])
		}
		t.words = append(t.words, w)
		for k := 0; k+1 < len(w.tokens); k++ {
			p := pair{w.tokens[k], w.tokens[k+1]}
			t.counts[p] += w.count
			t.where[p] = append(t.where[p], i)
		}
	}
	for p, n := range t.counts {
		t.queue = append(t.queue, counted{p, n})
	}
	heap.Init(&t.queue) // a total order, so the map's order does not show
	return t
}

// next returns the most frequent pair. Counts in the queue may be too high, and are then corrected.
func (t *training) next() (pair, bool) {
	for len(t.queue) > 0 {
		top := heap.Pop(&t.queue).(counted)
		if now := t.counts[top.pair]; now != top.count {
			if now >= leastCount {
				heap.Push(&t.queue, counted{top.pair, now})
			}
			continue
		}
		return top.pair, top.count >= leastCount
	}
	return pair{}, false
}

// merge replaces the pair by id in every word and corrects the counts of the neighbours.
func (t *training) merge(p pair, id int32) {
	changed := map[pair]bool{}
	for _, i := range t.where[p] {
		w := &t.words[i]
		if !w.holds(p) {
			continue
		}
		for k := 0; k+1 < len(w.tokens); k++ {
			t.counts[pair{w.tokens[k], w.tokens[k+1]}] -= w.count
		}
		w.replace(p, id)
		for k := 0; k+1 < len(w.tokens); k++ {
			q := pair{w.tokens[k], w.tokens[k+1]}
			t.counts[q] += w.count
			if q[0] == id || q[1] == id {
				t.where[q] = append(t.where[q], i)
				changed[q] = true
			}
		}
	}
	delete(t.where, p)
	delete(t.counts, p)
	for q := range changed {
		heap.Push(&t.queue, counted{q, t.counts[q]})
	}
}

func (w *trainingWord) holds(p pair) bool {
	for k := 0; k+1 < len(w.tokens); k++ {
		if w.tokens[k] == p[0] && w.tokens[k+1] == p[1] {
			return true
		}
	}
	return false
}

// replace merges from the left, as encoding does.
func (w *trainingWord) replace(p pair, id int32) {
	out := w.tokens[:0]
	for k := 0; k < len(w.tokens); k++ {
		if k+1 < len(w.tokens) && w.tokens[k] == p[0] && w.tokens[k+1] == p[1] {
			out = append(out, id)
			k++
		} else {
			out = append(out, w.tokens[k])
		}
	}
	w.tokens = out
}

type counted struct {
	pair  pair
	count int
}

type pairQueue []counted

func (q pairQueue) Len() int      { return len(q) }
func (q pairQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q pairQueue) Less(i, j int) bool {
	a, b := q[i], q[j]
	if a.count != b.count {
		return a.count > b.count
	}
	if a.pair[0] != b.pair[0] {
		return a.pair[0] < b.pair[0]
	}
	return a.pair[1] < b.pair[1]
}
func (q *pairQueue) Push(x any) { *q = append(*q, x.(counted)) }
func (q *pairQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
