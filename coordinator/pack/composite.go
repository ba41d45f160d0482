package pack

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
)

// count reads the length+1 of a slice whose elements take at least least bytes each; ok is false for nil.
func (r *reader) count(least uint64) (n int, ok bool) {
	u := r.uvarint()
	if u == 0 {
		return 0, false
	}
	if u-1 > uint64(len(r.rest))/least {
		r.fail()
		return 0, false
	}
	return int(u - 1), true
}

func pointer(t reflect.Type) codec {
	elem := codecOf(t.Elem())
	return codec{
		append: func(dst []byte, v reflect.Value) []byte {
			if v.IsNil() {
				return append(dst, 0)
			}
			return elem.append(append(dst, 1), v.Elem())
		},
		read: func(r *reader, v reflect.Value) {
			if !r.flag() {
				v.SetZero()
				return
			}
			p := reflect.New(t.Elem())
			elem.read(r, p.Elem())
			v.Set(p)
		},
	}
}

func slice(t reflect.Type) codec {
	switch t.Elem().Kind() {
	case reflect.Uint8:
		return bytesCodec
	case reflect.Float32, reflect.Int32:
		return words(t, 4)
	case reflect.Uint64, reflect.Float64:
		return words(t, 8)
	}
	elem := codecOf(t.Elem())
	return codec{
		append: func(dst []byte, v reflect.Value) []byte {
			if v.IsNil() {
				return append(dst, 0)
			}
			dst = binary.AppendUvarint(dst, uint64(v.Len())+1)
			for i := range v.Len() {
				dst = elem.append(dst, v.Index(i))
			}
			return dst
		},
		read: func(r *reader, v reflect.Value) {
			n, ok := r.count(1)
			if r.elements += n; r.elements > MaxElements {
				r.fail()
			}
			if !ok || r.err != nil {
				v.SetZero()
				return
			}
			s := reflect.MakeSlice(t, n, n)
			for i := 0; i < n && r.err == nil; i++ {
				elem.read(r, s.Index(i))
			}
			v.Set(s)
		},
	}
}

var bytesCodec = codec{
	append: func(dst []byte, v reflect.Value) []byte {
		if v.IsNil() {
			return append(dst, 0)
		}
		dst = binary.AppendUvarint(dst, uint64(v.Len())+1)
		return append(dst, v.Bytes()...)
	},
	read: func(r *reader, v reflect.Value) {
		n, ok := r.count(1)
		if !ok {
			v.SetZero()
			return
		}
		v.SetBytes(append(make([]byte, 0, n), r.take(uint64(n))...))
	},
}

// words is the codec of slices of 4 or 8 byte numbers, raw and little-endian.
func words(t reflect.Type, width int) codec {
	return codec{
		append: func(dst []byte, v reflect.Value) []byte {
			if v.IsNil() {
				return append(dst, 0)
			}
			dst = binary.AppendUvarint(dst, uint64(v.Len())+1)
			at := len(dst)
			dst = slices.Grow(dst, v.Len()*width)[:at+v.Len()*width]
			out := dst[at:]
			switch s := v.Interface().(type) {
			case []float32:
				for i, x := range s {
					binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(x))
				}
			case []int32:
				for i, x := range s {
					binary.LittleEndian.PutUint32(out[4*i:], uint32(x))
				}
			case []uint64:
				for i, x := range s {
					binary.LittleEndian.PutUint64(out[8*i:], x)
				}
			case []float64:
				for i, x := range s {
					binary.LittleEndian.PutUint64(out[8*i:], math.Float64bits(x))
				}
			default:
				panic(fmt.Sprintf("pack: %s has no packed form: give the slice its unnamed type", t))
			}
			return dst
		},
		read: func(r *reader, v reflect.Value) {
			n, ok := r.count(uint64(width))
			if !ok {
				v.SetZero()
				return
			}
			raw := r.take(uint64(n * width))
			s := reflect.MakeSlice(t, n, n)
			switch s := s.Interface().(type) {
			case []float32:
				for i := range s {
					s[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
				}
			case []int32:
				for i := range s {
					s[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
				}
			case []uint64:
				for i := range s {
					s[i] = binary.LittleEndian.Uint64(raw[8*i:])
				}
			case []float64:
				for i := range s {
					s[i] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:]))
				}
			}
			v.Set(s)
		},
	}
}

func structure(t reflect.Type) codec {
	fields := make([]codec, t.NumField())
	for i := range fields {
		if f := t.Field(i); !f.IsExported() {
			panic(fmt.Sprintf("pack: %s has an unexported field %s", t, f.Name))
		}
		fields[i] = codecOf(t.Field(i).Type)
	}
	return codec{
		append: func(dst []byte, v reflect.Value) []byte {
			// The length is written after the fields: nearly always it takes one or two bytes, moved then.
			start := len(dst)
			dst = append(dst, 0)
			for i, f := range fields {
				dst = f.append(dst, v.Field(i))
			}
			n := len(dst) - start - 1
			if n < 0x80 {
				dst[start] = byte(n)
				return dst
			}
			var head [binary.MaxVarintLen64]byte
			h := binary.PutUvarint(head[:], uint64(n))
			dst = append(dst, head[:h-1]...)
			copy(dst[start+h:], dst[start+1:start+1+n])
			copy(dst[start:], head[:h])
			return dst
		},
		read: func(r *reader, v reflect.Value) {
			body := r.take(r.uvarint())
			after := r.rest
			if r.err != nil {
				return
			}
			if r.last > len(body) {
				r.fail()
				return
			}
			body, r.last = body[:len(body)-r.last], 0
			r.rest = body
			for i, f := range fields {
				if len(r.rest) == 0 {
					v.Field(i).SetZero() // appended since the writer's build
					continue
				}
				if f.read(r, v.Field(i)); r.err != nil {
					return
				}
			}
			r.rest = after // fields that a newer writer appended are skipped
		},
	}
}
