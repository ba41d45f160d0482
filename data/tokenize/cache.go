package tokenize

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// wordCache remembers the ids of words: one entry per slot, the newest wins, no locks. It is bounded, and what
// it holds changes speed only.
type wordCache struct {
	seed  maphash.Seed
	slots []atomic.Pointer[cachedWord]
}

type cachedWord struct {
	word string
	ids  []int32
}

const (
	cacheSlots   = 1 << 15
	cacheWordLen = 40 // bytes; longer words are rare or do not recur, as in Chinese, and would take the place of others
)

func newWordCache() *wordCache {
	return &wordCache{seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[cachedWord], cacheSlots)}
}

func (c *wordCache) slot(w string) *atomic.Pointer[cachedWord] {
	return &c.slots[maphash.String(c.seed, w)%cacheSlots]
}

// newCached copies both, so that a cached word does not keep its text alive.
func newCached(w string, ids []int32) *cachedWord {
	return &cachedWord{strings.Clone(w), append([]int32(nil), ids...)}
}
