package pack

import (
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"time"
)

// reader consumes packed bytes. After the first error every read returns zero values.
type reader struct {
	rest     []byte
	elements int
	last     int // bytes at the end of the outermost struct that are not fields
	err      error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = ErrMalformed
	}
	r.rest = nil
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uvarint() uint64 {
	u, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return u
}

func (r *reader) varint() int64 {
	i, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return i
}

func (r *reader) flag() bool {
	b := r.take(1)
	if len(b) == 1 && b[0] > 1 {
		r.fail()
	}
	return len(b) == 1 && b[0] == 1
}

func (r *reader) word32() uint32 {
	if b := r.take(4); len(b) == 4 {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) word64() uint64 {
	if b := r.take(8); len(b) == 8 {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func appendFlag(dst []byte, f bool) []byte {
	if f {
		return append(dst, 1)
	}
	return append(dst, 0)
}

var boolCodec = codec{
	append: func(dst []byte, v reflect.Value) []byte { return appendFlag(dst, v.Bool()) },
	read:   func(r *reader, v reflect.Value) { v.SetBool(r.flag()) },
}

var intCodec = codec{
	append: func(dst []byte, v reflect.Value) []byte { return binary.AppendVarint(dst, v.Int()) },
	read: func(r *reader, v reflect.Value) {
		i := r.varint()
		if v.OverflowInt(i) {
			r.fail()
			return
		}
		v.SetInt(i)
	},
}

var uintCodec = codec{
	append: func(dst []byte, v reflect.Value) []byte { return binary.AppendUvarint(dst, v.Uint()) },
	read: func(r *reader, v reflect.Value) {
		u := r.uvarint()
		if v.OverflowUint(u) {
			r.fail()
			return
		}
		v.SetUint(u)
	},
}

// Floats travel as bits: a NaN keeps its payload through Float32bits only on paths that do not convert to float64,
// so float32 is written from the bits of the converted value; which NaN it was carries no meaning here.
var float32Codec = codec{
	append: func(dst []byte, v reflect.Value) []byte {
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v.Float())))
	},
	read: func(r *reader, v reflect.Value) { v.SetFloat(float64(math.Float32frombits(r.word32()))) },
}

var float64Codec = codec{
	append: func(dst []byte, v reflect.Value) []byte {
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.Float()))
	},
	read: func(r *reader, v reflect.Value) { v.SetFloat(math.Float64frombits(r.word64())) },
}

var stringCodec = codec{
	append: func(dst []byte, v reflect.Value) []byte {
		dst = binary.AppendUvarint(dst, uint64(v.Len()))
		return append(dst, v.String()...)
	},
	read: func(r *reader, v reflect.Value) { v.SetString(string(r.take(r.uvarint()))) },
}

var timeCodec = codec{
	append: func(dst []byte, v reflect.Value) []byte {
		t := v.Interface().(time.Time)
		if t.IsZero() {
			return append(dst, 0)
		}
		dst = binary.AppendVarint(append(dst, 1), t.Unix())
		return binary.AppendUvarint(dst, uint64(t.Nanosecond()))
	},
	read: func(r *reader, v reflect.Value) {
		if !r.flag() {
			v.SetZero()
			return
		}
		seconds, nanoseconds := r.varint(), r.uvarint()
		if nanoseconds >= uint64(time.Second) {
			r.fail()
			return
		}
		v.Set(reflect.ValueOf(time.Unix(seconds, int64(nanoseconds)).UTC()))
	},
}

var scoresCodec = codec{
	append: func(dst []byte, v reflect.Value) []byte {
		scores := v.Interface().(map[string]float64)
		if scores == nil {
			return append(dst, 0)
		}
		keys := make([]string, 0, len(scores))
		for key := range scores {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		dst = binary.AppendUvarint(dst, uint64(len(keys))+1)
		for _, key := range keys {
			dst = binary.AppendUvarint(dst, uint64(len(key)))
			dst = append(dst, key...)
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(scores[key]))
		}
		return dst
	},
	read: func(r *reader, v reflect.Value) {
		n, ok := r.count(9)
		if !ok {
			v.SetZero()
			return
		}
		scores := make(map[string]float64)
		last := ""
		for i := range n {
			key := string(r.take(r.uvarint()))
			if i > 0 && key <= last { // one form only: ascending, no key twice
				r.fail()
			}
			last = key
			scores[key] = math.Float64frombits(r.word64())
			if r.err != nil {
				return
			}
		}
		v.Set(reflect.ValueOf(scores))
	},
}
