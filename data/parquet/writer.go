package parquet

import (
	"errors"
	"fmt"
	"io"
	"reflect"

	lib "github.com/parquet-go/parquet-go"
)

// Kind is what a column of a written table holds.
type Kind int

// The kinds of columns, with the Go type of their values. nil is null where it is allowed.
const (
	Text   Kind = iota // string, or nil
	Texts              // []string, or nil: a list
	Floats             // []float32: a list, such as a vector
	Int                // int64
)

// Codecs are the words for Column.Codec; "" is not compressed.
var Codecs = []string{"", "snappy", "gzip", "zstd"}

// Column describes a column of a written table.
type Column struct {
	Name       string
	Kind       Kind
	Codec      string // one of Codecs
	Dictionary bool   // equal values are stored once
}

// maxGroup is how many bytes of values a row group has, about: what is held in memory until they are written.
const maxGroup = 64 << 20

// Writer writes a table. Columns keep the order that they are given in.
type Writer struct {
	columns []Column
	row     reflect.Value // of a struct with a field for each column
	out     *lib.GenericWriter[any]
	size    int
}

// NewWriter begins a table on w.
func NewWriter(w io.Writer, columns []Column) (*Writer, error) {
	kinds := map[Kind]struct {
		kind reflect.Type
		tag  string
	}{
		Text: {reflect.TypeFor[*string](), "optional"}, Texts: {reflect.TypeFor[[]string](), "optional,list"},
		Floats: {reflect.TypeFor[[]float32](), "list"}, Int: {reflect.TypeFor[int64](), ""},
	}
	var fields []reflect.StructField
	for i, c := range columns {
		kind, ok := kinds[c.Kind]
		if !ok {
			return nil, fmt.Errorf("parquet: column %q is of kind %d, which does not exist", c.Name, c.Kind)
		}
		tag := c.Name
		for _, word := range []string{kind.tag, c.Codec, map[bool]string{true: "dict"}[c.Dictionary]} {
			if word != "" {
				tag += "," + word
			}
		}
		fields = append(fields, reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: kind.kind, Tag: reflect.StructTag(fmt.Sprintf("parquet:%q", tag))})
	}
	row := reflect.New(reflect.StructOf(fields))
	return &Writer{columns: columns, row: row, out: lib.NewGenericWriter[any](w, lib.SchemaOf(row.Interface()), lib.CreatedBy("counterpoint", "", ""))}, nil
}

// Write appends a row, a value for each column. The values are not kept.
func (w *Writer) Write(values ...any) error {
	if len(values) != len(w.columns) {
		return fmt.Errorf("parquet: a row of %d values for %d columns", len(values), len(w.columns))
	}
	for i, v := range values {
		field := w.row.Elem().Field(i)
		field.SetZero()
		if v == nil && (field.Kind() == reflect.Pointer || w.columns[i].Kind == Texts) {
			continue
		}
		to := field
		if field.Kind() == reflect.Pointer {
			to = reflect.New(field.Type().Elem()).Elem()
		}
		from := reflect.ValueOf(v)
		if !from.IsValid() || !from.CanConvert(to.Type()) || from.Kind() != to.Kind() {
			return fmt.Errorf("parquet: column %q: a value of type %T", w.columns[i].Name, v)
		}
		to.Set(from)
		if field.Kind() == reflect.Pointer {
			field.Set(to.Addr())
		}
		switch v := v.(type) {
		case string:
			w.size += len(v)
		case []string:
			for _, s := range v {
				w.size += len(s)
			}
		case []float32:
			w.size += 4 * len(v)
		}
		w.size += 8
	}
	if _, err := w.out.Write([]any{w.row.Interface()}); err != nil {
		return err
	}
	if w.size > maxGroup {
		return w.Flush()
	}
	return nil
}

// Flush ends the row group.
func (w *Writer) Flush() error {
	w.size = 0
	return w.out.Flush()
}

// Close writes the rest and the file's description of itself.
func (w *Writer) Close() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(err, fmt.Errorf("parquet: write: %v", p))
		}
	}()
	return w.out.Close()
}
