package tokenize

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"unicode/utf8"
)

// digest hashes files with their lengths, so that no two lists of files look alike.
func digest(files ...[]byte) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%d\n", len(f))
		h.Write(f)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// build checks the definition and makes the tokenizer.
func (d *definition) build() (*Tokenizer, error) {
	t := &Tokenizer{ids: make(map[string]int32, len(d.vocab)+len(d.added)), normal: map[int32]string{}, specials: Specials{-1, -1, -1, -1, -1}}
	if err := d.numberTokens(t); err != nil {
		return nil, err
	}
	var err error
	if t.normalizer, err = buildNormalizer(d.normalizer, 0); err != nil {
		return nil, fmt.Errorf("normalizer: %w", err)
	}
	if t.stages, err = buildStages(d.preTokenizer, 0); err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	byteLevel := false
	for i, s := range t.stages {
		if _, ok := s.(*byteLevelStage); ok {
			if i != len(t.stages)-1 {
				return nil, errors.New("pre_tokenizer: ByteLevel is supported only as the last step")
			}
			byteLevel = true
		}
	}
	if t.model, err = d.buildModel(byteLevel); err != nil {
		return nil, err
	}
	if t.template, err = buildTemplate(d.postProcessor, 0); err != nil {
		return nil, fmt.Errorf("post_processor: %w", err)
	}
	if t.decoder, err = buildDecoder(d.decoder, 0); err != nil {
		return nil, fmt.Errorf("decoder: %w", err)
	}
	if t.batch.Truncation, err = buildTruncation(d.truncation); err != nil {
		return nil, fmt.Errorf("truncation: %w", err)
	}
	if t.batch.Padding, err = buildPadding(d.padding); err != nil {
		return nil, fmt.Errorf("padding: %w", err)
	}
	d.buildAdded(t)
	return t, nil
}

// numberTokens fills the tables of tokens, from the vocabulary and the added tokens.
func (d *definition) numberTokens(t *Tokenizer) error {
	highest := int64(-1)
	// Ids index the rows of an embedding table, so a far id is a fault of the file; the limit also bounds memory.
	limit := min(8*int64(len(d.vocab)+len(d.added))+1<<16, maxID)
	check := func(token string, id int64) error {
		if id < 0 || id >= limit {
			return fmt.Errorf("token %q has the id %d, allowed are 0 to %d for %d tokens", token, id, limit-1, len(d.vocab)+len(d.added))
		}
		highest = max(highest, id)
		return nil
	}
	names := make([]string, 0, len(d.vocab))
	for token := range d.vocab {
		names = append(names, token)
	}
	sort.Strings(names) // so that of several faults the same one is reported each time
	for _, token := range names {
		if err := check(token, d.vocab[token]); err != nil {
			return fmt.Errorf("model.vocab: %w", err)
		}
	}
	for _, a := range d.added {
		if err := check(a.Content, a.ID); err != nil {
			return fmt.Errorf("added_tokens: %w", err)
		}
	}
	t.tokens, t.present, t.special = make([]string, highest+1), make([]bool, highest+1), make([]bool, highest+1)
	for _, token := range names {
		id := d.vocab[token]
		if t.present[id] {
			return fmt.Errorf("model.vocab: tokens %q and %q have the same id %d", t.tokens[id], token, id)
		}
		t.tokens[id], t.present[id], t.ids[token] = token, true, int32(id)
	}
	for _, a := range d.added {
		if id, ok := t.ids[a.Content]; ok && int64(id) != a.ID {
			return fmt.Errorf("added_tokens: %q has the id %d, elsewhere %d", a.Content, a.ID, id)
		}
		if t.present[a.ID] && t.tokens[a.ID] != a.Content {
			return fmt.Errorf("added_tokens: %q has the id %d of %q", a.Content, a.ID, t.tokens[a.ID])
		}
		t.tokens[a.ID], t.present[a.ID], t.ids[a.Content] = a.Content, true, int32(a.ID)
		t.special[a.ID] = a.Special
	}
	return nil
}

// buildAdded makes the two sets of added tokens. Those that are sought in normalised text are normalised too.
func (d *definition) buildAdded(t *Tokenizer) {
	var raw, normalized []addedToken
	for _, a := range d.added {
		if !a.Normalized {
			raw = append(raw, a)
			continue
		}
		if t.normalizer != nil {
			a.Content = t.normalizer.apply(a.Content)
			t.normal[int32(a.ID)] = a.Content
		}
		normalized = append(normalized, a)
	}
	t.raw, t.normalized = newAddedSet(raw), newAddedSet(normalized)
}

func (d *definition) buildModel(byteLevel bool) (*bpe, error) {
	if len(d.merges) > maxMerges {
		return nil, fmt.Errorf("model.merges: %d entries, at most %d are supported", len(d.merges), maxMerges)
	}
	m := &bpe{merges: newMergeTable(len(d.merges)), unknown: -1, fuseUnknown: d.fuseUnknown, cache: newWordCache(), cacheableLen: cacheWordLen}
	vocab := func(token string) (int32, bool) { // without the added tokens
		id, ok := d.vocab[token]
		return int32(id), ok
	}
	for rank, pair := range d.merges {
		left, ok := vocab(pair[0])
		right, ok2 := vocab(pair[1])
		whole, ok3 := vocab(pair[0] + pair[1])
		if !ok || !ok2 || !ok3 {
			for i, token := range []string{pair[0], pair[1], pair[0] + pair[1]} {
				if _, ok := vocab(token); !ok {
					return nil, fmt.Errorf("model.merges: entry %d, %q: %s %q is not in the vocabulary", rank, pair, [...]string{"left part", "right part", "result"}[i], token)
				}
			}
		}
		m.merges.add(left, right, uint32(rank), whole) // of two equal merges the later rank holds, as in the reference
	}
	if d.unknown != "" {
		m.unknown, _ = vocab(d.unknown)
	}
	if byteLevel {
		m.bytes = new([256]int32)
		for b, r := range byteRunes {
			m.bytes[b] = -1
			if id, ok := vocab(string(r)); ok {
				m.bytes[b] = id
			}
		}
	} else {
		m.chars = map[rune]int32{}
		for token, id := range d.vocab {
			if r, n := utf8.DecodeRuneInString(token); n > 0 && n == len(token) {
				m.chars[r] = int32(id)
			}
		}
	}
	if d.byteFallback {
		m.fallback = new([256]int32)
		for b := range m.fallback {
			m.fallback[b] = -1
			if id, ok := vocab(fmt.Sprintf("<0x%02X>", b)); ok {
				m.fallback[b] = id
			}
		}
		if byteLevel {
			return nil, errors.New("model.byte_fallback together with ByteLevel is not supported")
		}
	}
	if byteLevel {
		m.wholeChars = d.wholeChars(m)
	}
	if d.ignoreMerges {
		m.whole = make(map[string]int32, len(d.vocab))
		for token, id := range d.vocab {
			if byteLevel {
				raw, ok := rawBytes(token)
				if !ok {
					continue // no text can give it
				}
				token = raw
			}
			m.whole[token] = int32(id)
		}
	}
	return m, nil
}

// wholeChars prepares byte-level merging to begin with characters.
func (d *definition) wholeChars(m *bpe) *wholeChars {
	tokens := map[string]int32{}
	for token, id := range d.vocab {
		if len(token) <= 2*utf8.UTFMax { // each byte is a visible character of at most two
			if raw, ok := rawBytes(token); ok && len(raw) > 1 && len(raw) <= utf8.UTFMax {
				tokens[raw] = int32(id)
			}
		}
	}
	merges := make([][2]string, len(d.merges))
	for i, pair := range d.merges {
		for j, part := range pair {
			raw, ok := rawBytes(part)
			if !ok {
				raw = "" // no text can give it
			}
			merges[i][j] = raw
		}
	}
	return newWholeChars(m, merges, tokens)
}
