package parquet

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	lib "github.com/parquet-go/parquet-go"
)

// rowWriter assembles one row from its columns' values and levels (Melnik et al. 2010, "Dremel", section 4.3) and
// writes it as JSON. A value's definition level says how deep its path is there, its repetition level which list on
// the path it goes on with.
type rowWriter struct {
	columns []*column
	out     []byte
	at      **column // the one being read, for messages
}

// first returns the next value of the first column below f: whether f is there is the same for all of them.
func (w *rowWriter) first(f *field) (*lib.Value, error) {
	c := w.columns[f.leaf]
	*w.at = c
	v, err := c.peek()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return v, err
}

// group writes an object; rep is the level at which its values go on.
func (w *rowWriter) group(f *field, rep int) error {
	w.out = append(w.out, '{')
	for i, child := range f.fields {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.out = appendString(w.out, child.name)
		w.out = append(w.out, ':')
		if err := w.field(child, rep); err != nil {
			return err
		}
	}
	w.out = append(w.out, '}')
	return nil
}

// field writes a value, a list or null.
func (w *rowWriter) field(f *field, rep int) error {
	switch {
	case f.repeated:
		return w.list(f, rep, false)
	case f.optional:
		v, err := w.first(f)
		if err != nil {
			return err
		}
		if v.DefinitionLevel() < f.def {
			w.out = append(w.out, "null"...)
			return w.absent(f, rep)
		}
	}
	if f.list {
		return w.list(f.fields[0], rep, f.fields[0].element(f.name))
	}
	return w.value(f, rep)
}

// list writes the values of a repeated field; of a group with one field that field's, if inner.
func (w *rowWriter) list(f *field, rep int, inner bool) error {
	v, err := w.first(f)
	if err != nil {
		return err
	}
	if v.DefinitionLevel() < f.def {
		w.out = append(w.out, "[]"...)
		return w.absent(f, rep)
	}
	for n := 0; ; n++ {
		w.out = append(w.out, map[bool]byte{true: '[', false: ','}[n == 0])
		if inner {
			err = w.field(f.fields[0], rep)
		} else {
			err = w.value(f, rep)
		}
		if err != nil {
			return err
		}
		v, err := w.columns[f.leaf].peek()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err != nil || v.RepetitionLevel() < f.rep {
			w.out = append(w.out, ']')
			return nil
		}
		rep = f.rep
	}
}

// absent passes over the entry that each column below f has where f is not there.
func (w *rowWriter) absent(f *field, rep int) error {
	for i := f.leaf; i < f.leaf+f.leaves; i++ {
		if _, err := w.take(i, rep); err != nil {
			return err
		}
		w.columns[i].skip()
	}
	return nil
}

// take returns the next value of a column, which must go on at level rep.
func (w *rowWriter) take(i, rep int) (*lib.Value, error) {
	c := w.columns[i]
	*w.at = c
	v, err := c.peek()
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	case v.RepetitionLevel() != rep:
		return nil, fmt.Errorf("the repetition level %d where %d is needed: its lists are not as long as those of the other columns", v.RepetitionLevel(), rep)
	}
	return v, nil
}

// value writes a column's value, or a group.
func (w *rowWriter) value(f *field, rep int) error {
	if len(f.fields) > 0 {
		return w.group(f, rep)
	}
	v, err := w.take(f.leaf, rep)
	if err != nil {
		return err
	}
	if v.DefinitionLevel() < f.def {
		return fmt.Errorf("the definition level %d where %d is needed", v.DefinitionLevel(), f.def)
	}
	w.out = appendValue(w.out, f, v)
	w.columns[f.leaf].skip()
	return nil
}

func appendValue(out []byte, f *field, v *lib.Value) []byte {
	switch v.Kind() {
	case lib.Boolean:
		return strconv.AppendBool(out, v.Boolean())
	case lib.Int32:
		if f.unsigned {
			return strconv.AppendUint(out, uint64(v.Uint32()), 10)
		}
		return strconv.AppendInt(out, int64(v.Int32()), 10)
	case lib.Int64:
		if f.unsigned {
			return strconv.AppendUint(out, v.Uint64(), 10)
		}
		return strconv.AppendInt(out, v.Int64(), 10)
	case lib.Float:
		return appendFloat(out, float64(v.Float()), 32)
	case lib.Double:
		return appendFloat(out, v.Double(), 64)
	case lib.ByteArray, lib.FixedLenByteArray:
		text := v.ByteArray()
		if !f.text && !utf8.Valid(text) { // an image, say: of no use as text, and no damage either
			return fmt.Appendf(out, `{"bytes":%d}`, len(text))
		}
		return appendString(out, string(text))
	default: // Int96, the time stamps of old writers
		return appendString(out, v.String())
	}
}

// appendFloat writes numbers that JSON lacks as strings.
func appendFloat(out []byte, x float64, bits int) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return appendString(out, strconv.FormatFloat(x, 'g', -1, bits))
	}
	return strconv.AppendFloat(out, x, 'g', -1, bits)
}

// appendString quotes a string and leaves bytes that are not UTF-8 as they are: the reader of the row names them.
func appendString(out []byte, s string) []byte {
	const hex = "0123456789abcdef"
	out = append(out, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		out = append(out, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			out = append(out, '\\', c)
		case '\n':
			out = append(out, '\\', 'n')
		case '\t':
			out = append(out, '\\', 't')
		case '\r':
			out = append(out, '\\', 'r')
		default:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(out, s[start:]...), '"')
}
