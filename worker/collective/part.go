package collective

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"sync"

	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// encode packs a part: the number of exponents, the exponents, the number of values (all varints), the values.
func encode(exponents []int32, values []int64) []byte {
	b := binary.AppendUvarint(Buffer(len(values)*5 + len(exponents)*2 + 64)[:0], uint64(len(exponents)))
	for _, e := range exponents {
		b = binary.AppendVarint(b, int64(e))
	}
	b = binary.AppendUvarint(b, uint64(len(values)))
	return fixed.Pack(b, values)
}

// decode reads what goes before the values of a part, of which there must be want; fixed.Unpack reads them from code.
func decode(b []byte, want int) (exponents []int32, code []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)) {
		return nil, nil, errors.New("decode part: bad number of exponents")
	}
	b = b[w:]
	exponents = make([]int32, n)
	for i := range exponents {
		e, w := binary.Varint(b)
		if w <= 0 || e != int64(int32(e)) {
			return nil, nil, fmt.Errorf("decode part: bad exponent %d of %d", i, n)
		}
		exponents[i], b = int32(e), b[w:]
	}
	n, w = binary.Uvarint(b)
	if w <= 0 || n != uint64(want) {
		return nil, nil, fmt.Errorf("decode part: %d values, want %d", n, want)
	}
	return exponents, b[w:], nil
}

// unpack reads exactly values from code, or adds them.
func unpack(values []int64, code []byte, add bool) error {
	read := fixed.Unpack
	if add {
		read = fixed.UnpackAdd
	}
	rest, err := read(values, code)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	if err != nil {
		return fmt.Errorf("decode part: %w", err)
	}
	return nil
}

// checksum guards a part on its way: CRC-32C, which costs a tenth of packing. What was added wrong would show in the
// digests that are compared at every commit; this says which part to ask for again.
func checksum(b []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(b, castagnoli)), 16)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// spare holds the memory of packed parts between two uses.
var spare sync.Pool

// Buffer returns n bytes of any content, for a payload.
func Buffer(n int) []byte {
	if p, ok := spare.Get().(*[]byte); ok && cap(*p) >= n {
		return (*p)[:n]
	}
	return make([]byte, n, n+n/8)
}

// Recycle takes the memory of a payload that nobody reads any more, of Buffer or not.
func Recycle(b []byte) {
	if cap(b) >= 4<<10 {
		spare.Put(&b)
	}
}

// lent holds slices of values between two uses.
var lent sync.Pool

func scratch(n int) []int64 {
	if p, ok := lent.Get().(*[]int64); ok && cap(*p) >= n {
		return (*p)[:n]
	}
	return make([]int64, n)
}

func recycle(values []int64) { lent.Put(&values) }
