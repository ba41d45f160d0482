package tokenize

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Encoding is a text, or a pair of texts, as a model takes it.
type Encoding struct {
	IDs   []int32
	Types []int32 // of the texts of a pair; of one text 0 as a rule
	Mask  []int32 // 1 for tokens, 0 for padding
}

// Batch says how several texts are encoded together. A run's own settings decide how its texts are cut; this is for
// whoever needs what the reference does with a file that has truncation and padding.
type Batch struct {
	Truncation *Truncation // nil: texts keep their lengths
	Padding    *Padding    // nil: encodings keep theirs
	Plain      bool        // without the special tokens of the post-processor
}

// Truncation cuts texts.
type Truncation struct {
	Max      int    // tokens, special ones included
	Left     bool   // the beginning is cut off instead of the end
	Strategy string // of pairs: LongestFirst ("" too), OnlyFirst or OnlySecond
}

// The strategies of truncation.
const (
	LongestFirst = "LongestFirst"
	OnlyFirst    = "OnlyFirst"
	OnlySecond   = "OnlySecond"
)

// Padding makes the encodings of a batch equally long.
type Padding struct {
	Length   int // 0 = the longest of the batch
	Multiple int // the length is rounded up to one; 0 = not
	Left     bool
	ID, Type int32
}

// Batch returns what the tokenizer's file says of truncation and padding.
func (t *Tokenizer) Batch() Batch { return t.batch }

// Encode encodes texts on all cores. The result does not depend on how many there are.
func (b Batch) Encode(t *Tokenizer, texts []string) ([]Encoding, error) {
	out := make([]Encoding, len(texts))
	err := parallel(len(texts), func(i int) (err error) { out[i], err = b.encode(t, texts[i], nil); return err })
	if err != nil {
		return nil, err
	}
	b.Padding.pad(out)
	return out, nil
}

// EncodePairs encodes pairs of texts on all cores.
func (b Batch) EncodePairs(t *Tokenizer, pairs [][2]string) ([]Encoding, error) {
	out := make([]Encoding, len(pairs))
	err := parallel(len(pairs), func(i int) (err error) { out[i], err = b.encode(t, pairs[i][0], &pairs[i][1]); return err })
	if err != nil {
		return nil, err
	}
	b.Padding.pad(out)
	return out, nil
}

// parallel calls each for 0 to n-1 on all cores and returns the error of the lowest number that failed.
func parallel(n int, each func(i int) error) error {
	var wait sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, n)
	for range min(runtime.GOMAXPROCS(0), n) {
		wait.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				errs[i] = each(int(i))
			}
		})
	}
	wait.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("text %d: %w", i, err)
		}
	}
	return nil
}

// encode encodes one text, or two.
func (b Batch) encode(t *Tokenizer, first string, second *string) (Encoding, error) {
	parts := t.template.single
	if second != nil {
		parts = t.template.pair
	}
	if parts == nil || b.Plain {
		parts = []templatePart{{sequence: 'A'}}
		if second != nil {
			parts = append(parts, templatePart{sequence: 'B', typeID: 1})
		}
	}
	texts := [2][]int32{t.Encode(nil, first), nil}
	if second != nil {
		texts[1] = t.Encode(nil, *second)
	}
	if b.Truncation != nil {
		special := 0
		for _, p := range parts {
			special += len(p.ids)
		}
		if err := b.Truncation.cut(&texts, second != nil, special); err != nil {
			return Encoding{}, err
		}
	}
	var e Encoding
	for _, p := range parts {
		ids := p.ids
		if p.sequence != 0 {
			ids = texts[p.sequence-'A']
		}
		e.IDs = append(e.IDs, ids...)
		for range ids {
			e.Types, e.Mask = append(e.Types, p.typeID), append(e.Mask, 1)
		}
	}
	return e, nil
}

// cut shortens the texts to what special tokens leave of Max: truncate_encodings of the reference.
func (t *Truncation) cut(texts *[2][]int32, pair bool, special int) error {
	room := max(t.Max-special, 0)
	n := [2]int{len(texts[0]), len(texts[1])}
	over := n[0] + n[1] - room
	if over <= 0 {
		return nil
	}
	switch {
	case t.Strategy == OnlyFirst || t.Strategy == OnlySecond:
		which := map[bool]int{true: 1}[t.Strategy == OnlySecond]
		if which == 1 && !pair {
			return errors.New("cannot be cut by OnlySecond: there is one text")
		}
		if room > 0 && n[which] <= over {
			return fmt.Errorf("cannot be cut to %d tokens by %s: that text has %d and %d are too many", t.Max, t.Strategy, n[which], over)
		}
		if n[which] -= over; room == 0 {
			n = [2]int{}
		}
	case pair:
		short, long := 0, 1
		if n[0] > n[1] {
			short, long = 1, 0
		}
		if n[short] > room {
			n[long] = n[short]
		} else {
			n[long] = max(n[short], room-n[short])
		}
		if n[short]+n[long] > room {
			n[short] = room / 2
			n[long] = n[short] + room%2
		}
	default:
		n[0] = room
	}
	for i := range texts {
		if t.Left {
			texts[i] = texts[i][len(texts[i])-n[i]:]
		} else {
			texts[i] = texts[i][:n[i]]
		}
	}
	return nil
}

func (p *Padding) pad(batch []Encoding) {
	if p == nil {
		return
	}
	length := p.Length
	if length == 0 {
		for _, e := range batch {
			length = max(length, len(e.IDs))
		}
	}
	if m := p.Multiple; m > 0 {
		length = (length + m - 1) / m * m
	}
	for i := range batch {
		e := &batch[i]
		for _, row := range []struct {
			values *[]int32
			fill   int32
		}{{&e.IDs, p.ID}, {&e.Types, p.Type}, {&e.Mask, 0}} {
			missing := length - len(*row.values)
			if missing <= 0 {
				continue
			}
			fill := slices.Repeat([]int32{row.fill}, missing)
			if p.Left {
				*row.values = append(fill, *row.values...)
			} else {
				*row.values = append(*row.values, fill...)
			}
		}
	}
}

// maxBatchLength bounds lengths of a file, and so the memory of padding.
const maxBatchLength = 1 << 24

func buildTruncation(text json.RawMessage) (*Truncation, error) {
	if isNull(text) {
		return nil, nil
	}
	part := struct {
		Direction string
		MaxLength *int `json:"max_length"`
		Strategy  string
		Stride    int
	}{Direction: "Right", Strategy: LongestFirst}
	if err := json.Unmarshal(text, &part); err != nil {
		return nil, err
	}
	switch {
	case part.MaxLength == nil:
		return nil, errors.New("max_length is missing")
	case *part.MaxLength < 0: // some files have the largest integer for "no limit"
		return nil, fmt.Errorf("max_length: %d; 0 or more is allowed", *part.MaxLength)
	case part.Stride < 0 || part.Stride > 0 && part.Stride >= *part.MaxLength:
		return nil, fmt.Errorf("stride: %d; less than max_length %d is allowed", part.Stride, *part.MaxLength)
	case part.Direction != "Left" && part.Direction != "Right":
		return nil, fmt.Errorf("direction: %q; Left and Right are allowed", part.Direction)
	case part.Strategy != LongestFirst && part.Strategy != OnlyFirst && part.Strategy != OnlySecond:
		return nil, fmt.Errorf("strategy: %q; LongestFirst, OnlyFirst and OnlySecond are allowed", part.Strategy)
	}
	return &Truncation{Max: *part.MaxLength, Left: part.Direction == "Left", Strategy: part.Strategy}, nil
}

func buildPadding(text json.RawMessage) (*Padding, error) {
	if isNull(text) {
		return nil, nil
	}
	part := struct {
		Strategy  json.RawMessage
		Direction string
		Multiple  *int  `json:"pad_to_multiple_of"`
		ID        int32 `json:"pad_id"`
		Type      int32 `json:"pad_type_id"`
	}{Direction: "Right"}
	if err := json.Unmarshal(text, &part); err != nil {
		return nil, err
	}
	p := &Padding{Left: part.Direction == "Left", ID: part.ID, Type: part.Type}
	if part.Direction != "Left" && part.Direction != "Right" {
		return nil, fmt.Errorf("direction: %q; Left and Right are allowed", part.Direction)
	}
	if part.Multiple != nil {
		p.Multiple = *part.Multiple
	}
	if name := string(part.Strategy); name != `"BatchLongest"` && !isNull(part.Strategy) {
		var fixed struct{ Fixed *int }
		if err := json.Unmarshal(part.Strategy, &fixed); err != nil || fixed.Fixed == nil {
			return nil, fmt.Errorf("strategy: %.40s; \"BatchLongest\" and {\"Fixed\": length} are allowed", name)
		}
		p.Length = *fixed.Fixed
	}
	if p.Length < 0 || p.Multiple < 0 || max(p.Length, p.Multiple) > maxBatchLength {
		return nil, fmt.Errorf("length %d, pad_to_multiple_of %d; 0 to %d is allowed", p.Length, p.Multiple, maxBatchLength)
	}
	return p, nil
}
