// Package pack writes Go structs as bytes, deterministically: the form of the protocol's messages, of the commands
// in the Raft log and of snapshots.
//
//	bool                 one byte, 0 or 1
//	integers             varint (zigzag when signed)
//	float32, float64     IEEE bits, little-endian
//	string, []byte       length, bytes ([]byte: length+1, 0 for nil)
//	[]T                  length+1 (0 for nil), elements; []float32, []int32, []uint64 as raw little-endian words
//	map[string]float64   length+1 (0 for nil), then key and value, keys ascending
//	*T                   0, or 1 and the value
//	time.Time            0, or 1, seconds and nanoseconds of the Unix time; read back in UTC
//	struct               length in bytes, then the fields in order
//
// A struct's length is what lets it grow: an older reader skips fields appended since, a newer one reads missing
// fields as zero. So fields are appended, never moved or removed, within a protocol version.
//
// Why not msgpack or JSON: equal values must have equal bytes (state hashes), NaN must travel (a diverged loss), rows
// of floats must be copied and not boxed, and a hostile message may cost neither stack nor memory. Types are fixed at
// compile time, so nesting is bounded by the type and a length by the bytes that remain.
package pack

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"
)

// MaxElements bounds the elements of all slices of one value that are not raw words or bytes: a message of a few
// bytes per element may not become gigabytes of structs.
const MaxElements = 1 << 21

// ErrMalformed marks bytes that are not the packed form of the type asked for.
var ErrMalformed = errors.New("malformed bytes")

// Marshal returns the packed form of v, a struct or a pointer to one. It panics on a type that has none, which a
// test of any value of the type shows.
func Marshal(v any) []byte { return Append(nil, v) }

// Append appends the packed form of v to dst.
func Append(dst []byte, v any) []byte {
	value := reflect.ValueOf(v)
	for value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	return codecOf(value.Type()).append(dst, value)
}

// Unmarshal reads b into v, a pointer to a struct. Errors wrap ErrMalformed. Nothing of b is kept.
func Unmarshal(b []byte, v any) error {
	return UnmarshalBut(b, v, 0)
}

// UnmarshalBut is Unmarshal of a struct whose last bytes, counted in its length, are not fields.
func UnmarshalBut(b []byte, v any, last int) error {
	value := reflect.ValueOf(v).Elem()
	r := &reader{rest: b, last: last}
	codecOf(value.Type()).read(r, value)
	switch {
	case r.err != nil:
		return fmt.Errorf("unpack %s at byte %d of %d: %w", value.Type(), len(b)-len(r.rest), len(b), r.err)
	case len(r.rest) > 0:
		return fmt.Errorf("unpack %s: %d bytes after its end: %w", value.Type(), len(r.rest), ErrMalformed)
	}
	return nil
}

// codec writes and reads values of one type.
type codec struct {
	append func(dst []byte, v reflect.Value) []byte
	read   func(r *reader, v reflect.Value)
}

var codecs sync.Map // reflect.Type -> codec

func codecOf(t reflect.Type) codec {
	if c, ok := codecs.Load(t); ok {
		return c.(codec)
	}
	c := build(t)
	codecs.Store(t, c)
	return c
}

var (
	timeType   = reflect.TypeFor[time.Time]()
	scoresType = reflect.TypeFor[map[string]float64]()
)

func build(t reflect.Type) codec {
	switch {
	case t == timeType:
		return timeCodec
	case t == scoresType:
		return scoresCodec
	}
	switch t.Kind() {
	case reflect.Bool:
		return boolCodec
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return intCodec
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return uintCodec
	case reflect.Float32:
		return float32Codec
	case reflect.Float64:
		return float64Codec
	case reflect.String:
		return stringCodec
	case reflect.Pointer:
		return pointer(t)
	case reflect.Slice:
		return slice(t)
	case reflect.Struct:
		return structure(t)
	}
	panic(fmt.Sprintf("pack: %s has no packed form", t))
}
