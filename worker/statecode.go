package worker

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// A state on the wire, all little-endian: step int64, attempt int32, parameters P int64, tensors int32 (-1 = no maxima),
// then the parameters, the first and the second moments and the maxima as float32.
const stateHead = 8 + 4 + 8 + 4

func stateSize(s *trainer.State) int64 {
	return stateHead + 4*int64(len(s.Parameters)+len(s.First)+len(s.Second)+len(s.Maxima))
}

// pieces views a state as what it is on the wire, one piece after another.
func pieces(s *trainer.State) [5][]byte {
	head := binary.LittleEndian.AppendUint64(make([]byte, 0, stateHead), uint64(s.Step))
	head = binary.LittleEndian.AppendUint32(head, uint32(s.Attempt))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(s.Parameters)))
	tensors := int32(len(s.Maxima))
	if s.Maxima == nil {
		tensors = -1
	}
	head = binary.LittleEndian.AppendUint32(head, uint32(tensors))
	return [5][]byte{head, fixed.Bytes(s.Parameters), fixed.Bytes(s.First), fixed.Bytes(s.Second), fixed.Bytes(s.Maxima)}
}

// encodeState returns the bytes [lo, hi) of a state's form on the wire: of its own memory where they are in one piece.
func encodeState(s *trainer.State, lo, hi int64) []byte {
	var out []byte
	at := int64(0)
	for _, p := range pieces(s) {
		end := at + int64(len(p))
		if a, b := max(lo, at), min(hi, end); a < b {
			if a == lo && b == hi {
				return p[a-at : b-at : b-at]
			}
			out = append(out, p[a-at:b-at]...)
		}
		at = end
	}
	return out
}

// newState returns a state of the form that the first bytes of one on the wire announce, and of size bytes.
func newState(head []byte, size int64) (trainer.State, error) {
	if len(head) < stateHead || size < stateHead {
		return trainer.State{}, fmt.Errorf("decode state: %d bytes, want at least %d", len(head), stateHead)
	}
	s := trainer.State{Step: int64(binary.LittleEndian.Uint64(head)), Attempt: int32(binary.LittleEndian.Uint32(head[8:]))}
	n := binary.LittleEndian.Uint64(head[12:])
	tensors := int32(binary.LittleEndian.Uint32(head[20:]))
	values := uint64(size - stateHead)
	if n > values/12 || tensors < -1 || values != 12*n+4*uint64(max(tensors, 0)) {
		return trainer.State{}, fmt.Errorf("decode state: %d bytes of values do not fit %d parameters and %d tensors", values, n, tensors)
	}
	s.Parameters, s.First, s.Second = make([]float32, n), make([]float32, n), make([]float32, n)
	if tensors >= 0 {
		s.Maxima = make([]float32, tensors)
	}
	return s, nil
}

// putState writes the bytes from lo on into a state made by newState. Calls for different bytes may run at once.
func putState(s *trainer.State, lo int64, b []byte) {
	at := int64(0)
	for i, p := range pieces(s) {
		end := at + int64(len(p))
		if from, to := max(lo, at), min(lo+int64(len(b)), end); from < to && i > 0 {
			copy(p[from-at:to-at], b[from-lo:])
		}
		at = end
	}
}

// decodeState reads a whole state.
func decodeState(b []byte) (trainer.State, error) {
	s, err := newState(b, int64(len(b)))
	if err == nil {
		putState(&s, 0, b)
	}
	return s, err
}

// digestPart guards a part of a state on its way: CRC-32C. The whole is verified by the committed digest.
func digestPart(b []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(b, castagnoli)), 16)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
