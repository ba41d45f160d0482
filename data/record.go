package data

import (
	"crypto/sha256"
	"encoding/binary"
)

// record is one row of a source or of a benchmark file: its texts, queries first.
type record struct {
	id        string   // benchmark files only
	texts     []string // query, positives, negatives
	queries   int      // how many leading texts are queries
	positives int      // how many texts after them are positives
	task      string   // instruction of the row itself
}

// format turns a line into a record and says what goes before its texts.
type format struct {
	parse       func(line []byte) (record, error)
	instruction string // of queries; "" uses the row's own
	document    string // of documents
	emptyTexts  bool   // a text without tokens stays (as one blank) and is no fault
}

// pairRecord lays out a row of training data.
func pairRecord(p Pair) record {
	texts := append(append([]string{p.Query}, p.Positives...), p.Negatives...)
	return record{texts: texts, queries: 1, positives: len(p.Positives), task: p.Task}
}

// prefix returns what goes before text i of a record: "instruction: ", or nothing.
func (f *format) prefix(r *record, i int) string {
	instruction := f.document
	if i < r.queries {
		if instruction = f.instruction; instruction == "" {
			instruction = r.task
		}
	}
	if instruction == "" || instruction == NoInstruction {
		return ""
	}
	return instruction + ": "
}

// encode appends the tokens of text i of a record with its prefix, untruncated.
func (f *format) encode(dst []int32, tok Tokenizer, r *record, i int) []int32 {
	start := len(dst)
	dst = tok.Encode(dst, f.prefix(r, i)+r.texts[i])
	if len(dst) == start && f.emptyTexts {
		if dst = tok.Encode(dst, " "); len(dst) == start {
			dst = append(dst, 0)
		}
	}
	return dst
}

// hash is the identity of a text: equal texts, and in practice only they, have equal hashes. 0 is no text's.
// Queries and documents differ even where their texts do not.
func (r *record) hash(i int) uint64 {
	h := sha256.New()
	if i < r.queries {
		h.Write([]byte("query\x00"))
	}
	h.Write([]byte(r.texts[i]))
	var sum [sha256.Size]byte
	return max(1, binary.LittleEndian.Uint64(h.Sum(sum[:0])))
}

// role returns the role of text i, and which of that role it is.
func (r *record) role(i int) (Role, int32) {
	switch i -= r.queries; {
	case i < 0:
		return Query, 0
	case i < r.positives:
		return Positive, int32(i)
	default:
		return Negative, int32(i - r.positives)
	}
}
