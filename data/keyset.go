package data

// keySet is a set of 64-bit keys that is cleared in O(1): every window of an epoch needs an empty one.
type keySet struct {
	keys  []uint64
	stamp []uint32 // slot is taken when equal to now
	now   uint32
	used  int
}

func newKeySet(capacity int) *keySet {
	size := 64
	for size < 2*capacity {
		size *= 2
	}
	return &keySet{keys: make([]uint64, size), stamp: make([]uint32, size), now: 1}
}

func (s *keySet) clear() {
	s.used = 0
	s.now++
	if s.now == 0 { // after 2^32 clears old stamps would look new
		clear(s.stamp)
		s.now = 1
	}
}

// slot returns where k is, or where it would go. Keys are hashes already.
func (s *keySet) slot(k uint64) int {
	mask := len(s.keys) - 1
	i := int(k) & mask
	for s.stamp[i] == s.now && s.keys[i] != k {
		i = (i + 1) & mask
	}
	return i
}

func (s *keySet) has(k uint64) bool { return s.stamp[s.slot(k)] == s.now }

// any reports whether one of keys is in the set.
func (s *keySet) any(keys []uint64) bool {
	for _, k := range keys {
		if s.has(k) {
			return true
		}
	}
	return false
}

func (s *keySet) add(keys []uint64) {
	for _, k := range keys {
		i := s.slot(k)
		if s.stamp[i] == s.now {
			continue
		}
		s.keys[i], s.stamp[i] = k, s.now
		if s.used++; 2*s.used > len(s.keys) {
			s.grow()
		}
	}
}

func (s *keySet) grow() {
	old := *s
	*s = *newKeySet(len(old.keys))
	for i, k := range old.keys {
		if old.stamp[i] == old.now {
			j := s.slot(k)
			s.keys[j], s.stamp[j] = k, s.now
			s.used++
		}
	}
}
