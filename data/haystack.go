package data

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Haystack is a set of long documents of which each hides one fact, and of queries that each ask for one of them: the
// passkey and needle tasks of LongEmbed (Zhu et al. 2024, arXiv 2404.12096), made here for any tokenizer. It is a pure
// function of its fields, the filler and the tokenizer.
type Haystack struct {
	Task      string // Passkey or Needle
	Length    int    // tokens of every document, exactly, without prompt and special tokens
	Queries   int    // 0 = 50
	Documents int    // 0 = 100, at most 2,500
	Seed      uint64
	Filler    string // text file in any language, cut at the ends of its sentences; "" = the task's own
}

// The tasks of a Haystack.
const (
	Passkey = "passkey" // a five-digit number in five sentences that repeat
	Needle  = "needle"  // a sentence about a place in sentences that differ
)

// Hay is what Generate makes: query i asks for document Answer[i].
type Hay struct {
	Queries   []string
	Documents []string
	Answer    []int
	Keys      []string // [Documents] what only this document says
}

// Generate makes the texts. It fails where Length is too short for the fact or no filling has exactly that many tokens.
func (h Haystack) Generate(tok Tokenizer) (Hay, error) {
	if h.Queries == 0 {
		h.Queries = 50
	}
	if h.Documents == 0 {
		h.Documents = 100
	}
	if h.Queries < 1 || h.Queries > h.Documents || h.Documents > len(givenNames)*len(familyNames) {
		return Hay{}, fmt.Errorf("generate %s: %d queries over %d documents; from 1 query up to as many as documents, and up to %d documents are allowed",
			h.Task, h.Queries, h.Documents, len(givenNames)*len(familyNames))
	}
	random := sequence(mix(h.Seed, uint64(h.Length), uint64(len(h.Task))))
	var facts []fact
	switch h.Task {
	case Passkey:
		facts = passkeys(h.Documents, &random)
	case Needle:
		facts = needles(h.Documents, &random)
	default:
		return Hay{}, fmt.Errorf("generate %q: %s and %s are known", h.Task, Passkey, Needle)
	}
	sentences, err := h.sentences()
	if err != nil {
		return Hay{}, err
	}
	if h.Filler != "" { // what one document hides is in no other either
		all := len(sentences)
		sentences = slices.DeleteFunc(sentences, func(s string) bool {
			return slices.ContainsFunc(facts, func(f fact) bool { return strings.Contains(s, f.key) })
		})
		if len(sentences) == 0 {
			return Hay{}, fmt.Errorf("filler %s: each of its %d sentences has what a document hides", h.Filler, all)
		}
	}
	out := Hay{Documents: make([]string, h.Documents), Keys: make([]string, h.Documents)}
	for i, f := range facts {
		filling := stream{sentences: sentences, random: sequence(random.next()), mixed: h.Task == Needle || h.Filler != ""}
		if out.Documents[i], err = f.hide(tok, h.Length, &filling, random.next()); err != nil {
			return Hay{}, fmt.Errorf("generate %s of %d tokens: document %d: %w", h.Task, h.Length, i, err)
		}
		out.Keys[i] = f.key
	}
	order := make([]uint32, h.Documents)
	permute(order, random.next())
	for _, i := range order[:h.Queries] {
		out.Queries = append(out.Queries, facts[i].question)
		out.Answer = append(out.Answer, int(i))
	}
	return out, nil
}

// sentences returns what the documents are filled with.
func (h Haystack) sentences() ([]string, error) {
	if h.Filler == "" {
		if h.Task == Passkey {
			return passkeyFiller, nil
		}
		return composed(), nil
	}
	text, err := os.ReadFile(h.Filler)
	if err != nil {
		return nil, fmt.Errorf("filler: %w", err)
	}
	sentences := cutSentences(string(text))
	if len(sentences) == 0 {
		return nil, fmt.Errorf("filler %s: no sentence in it", h.Filler)
	}
	return sentences, nil
}

// cutSentences cuts a text after full stops and their like, which stay; blanks between become one.
func cutSentences(text string) []string {
	var out []string
	var b strings.Builder
	flush := func() {
		if s := strings.Join(strings.Fields(b.String()), " "); s != "" {
			out = append(out, s)
		}
		b.Reset()
	}
	runes := []rune(text)
	for i, r := range runes {
		b.WriteRune(r)
		switch r {
		case '.', '!', '?':
			if i+1 == len(runes) || runes[i+1] == ' ' || runes[i+1] == '\n' || runes[i+1] == '\r' {
				flush()
			}
		case '。', '！', '？', '।', '؟':
			flush()
		}
	}
	flush()
	return out
}

// stream gives sentences without end: in their order, or drawn.
type stream struct {
	sentences []string
	random    sequence
	mixed     bool
	at        int
}

func (s *stream) next() string {
	if s.mixed {
		return s.sentences[s.random.below(uint64(len(s.sentences)))]
	}
	s.at++
	return s.sentences[(s.at-1)%len(s.sentences)]
}

// fact is what a document hides.
type fact struct {
	text, question string
	key            string // occurs in this fact only
}

// hide returns a document of exactly length tokens; depth, as a part of 2^64, of its sentences come before the fact.
func (f fact) hide(tok Tokenizer, length int, filling *stream, depth uint64) (string, error) {
	var buf []int32
	count := func(text string) int {
		buf = tok.Encode(buf[:0], text)
		return len(buf)
	}
	least := count(f.text)
	if least > length {
		return "", fmt.Errorf("the sentence to find has %d tokens itself: %q", least, f.text)
	}
	// Sentences are added while they fit. What joins their tokens is small, so the sum of their lengths leads close, and the
	// whole text is counted only near the end.
	sides := sequence(depth)
	var before, after []string
	sum := least
	whole := func(pad string) string {
		text := strings.Join(append(append(append([]string{}, before...), f.text), after...), " ")
		return text + pad
	}
	add := func(sentence string) (undo func()) {
		if sides.next() < depth {
			before = append(before, sentence)
			return func() { before = before[:len(before)-1] }
		}
		after = append(after, sentence)
		return func() { after = after[:len(after)-1] }
	}
	for misses := 0; misses < 8; {
		sentence := filling.next()
		if strings.Contains(sentence, f.key) {
			misses++
			continue
		}
		n := count(" " + sentence)
		if sum+n > length {
			misses++
			continue
		}
		undo := add(sentence)
		if sum+2*n+32 < length {
			sum += n // far from the end
			continue
		}
		if got := count(whole("")); got <= length {
			sum = got
		} else {
			undo()
			misses++
		}
	}
	// Far from the end sums may have been too small or too large by what joins: count, and take back what is too much.
	for sum = count(whole("")); sum > length; sum = count(whole("")) {
		switch {
		case len(after) > 0:
			after = after[:len(after)-1]
		case len(before) > 0:
			before = before[:len(before)-1]
		}
	}
	pad, ok := padding(func(pad string) int { return count(whole(pad)) }, sum, length, filling)
	if !ok {
		return "", fmt.Errorf("no filling has exactly that many tokens (%d are reached)", sum)
	}
	return whole(pad), nil
}

// padding finds what makes the text exactly length tokens long: words of the filler and signs, a token or so each.
func padding(count func(pad string) int, have, length int, filling *stream) (string, bool) {
	var units []string
	for range 12 {
		for _, word := range strings.Fields(filling.next()) {
			units = append(units, " "+word)
		}
	}
	units = append(units, " so", " and", " the", " a", " .", ".", "!", "\n", ",", "-")
	pad := ""
	for tries := 0; have < length && tries < 4096; {
		grown := false
		for _, u := range units {
			tries++
			if n := count(pad + u); n > have && n <= length {
				pad, have, grown = pad+u, n, true
				if have == length {
					break
				}
			}
		}
		if !grown {
			return "", false
		}
	}
	return pad, have == length
}
