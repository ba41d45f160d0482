package tokenize

import "fmt"

// template is what the post-processor adds around one text and around a pair; nil adds nothing.
type template struct{ single, pair []templatePart }

type templatePart struct {
	sequence byte // 'A', 'B', or 0 for ids
	ids      []int32
	typeID   int32
}

// Around returns the special tokens that the file's post-processor puts before and behind one text. A caller
// that cuts texts to a length leaves room for both.
func (t *Tokenizer) Around() (before, after []int32) {
	seen := false
	for _, p := range t.template.single {
		switch {
		case p.sequence != 0:
			seen = true
		case seen:
			after = append(after, p.ids...)
		default:
			before = append(before, p.ids...)
		}
	}
	return before, after
}

// EncodeSpecial appends the ids of text with the special tokens that the file's post-processor adds.
func (t *Tokenizer) EncodeSpecial(dst []int32, text string) []int32 {
	if t.template.single == nil {
		return t.Encode(dst, text)
	}
	for _, p := range t.template.single {
		if p.sequence != 0 {
			dst = t.Encode(dst, text)
		} else {
			dst = append(dst, p.ids...)
		}
	}
	return dst
}

// EncodePair returns the ids and type ids of two texts with special tokens, of equal length.
func (t *Tokenizer) EncodePair(a, b string) (ids, types []int32) {
	parts := t.template.pair
	if parts == nil {
		parts = []templatePart{{sequence: 'A'}, {sequence: 'B', typeID: 1}}
	}
	for _, p := range parts {
		switch p.sequence {
		case 'A':
			ids = t.Encode(ids, a)
		case 'B':
			ids = t.Encode(ids, b)
		default:
			ids = append(ids, p.ids...)
		}
		for len(types) < len(ids) {
			types = append(types, p.typeID)
		}
	}
	return ids, types
}

// checkTemplate sees to it that each text occurs where it must.
func checkTemplate(parts []templatePart, want string) error {
	var got string
	for _, p := range parts {
		if p.sequence != 0 {
			got += string(p.sequence)
		}
	}
	if got != want && !(want == "AB" && got == "BA") {
		return fmt.Errorf("template holds the texts %q, want each of %q once", got, want)
	}
	return nil
}
