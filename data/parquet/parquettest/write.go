// Package parquettest writes Parquet files for tests, from rows of JSON.
package parquettest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	lib "github.com/parquet-go/parquet-go"
)

// Options are how a file is written.
type Options struct {
	Codec      string // "", snappy, gzip or zstd
	Dictionary bool
	Group      int // rows of a row group; 0 = all
}

// Write writes lines of JSON objects as a table. Its columns are the keys in the order in which they first occur, each
// of the type of its first value that is not null: string, number (float64, or int64 if all are integers), boolean,
// list or object.
func Write(t testing.TB, path, lines string, o Options) {
	t.Helper()
	if err := write(path, strings.Split(strings.TrimSpace(lines), "\n"), o); err != nil {
		t.Fatalf("write %s: %v", path, err)
	}
}

func write(path string, lines []string, o Options) error {
	var table shape
	for _, line := range lines {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := table.read(d); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
	}
	row := table.typeOf(o)
	var file bytes.Buffer
	w := lib.NewWriter(&file, lib.SchemaOf(reflect.New(row).Interface()))
	for i, line := range lines {
		value := reflect.New(row)
		if err := json.Unmarshal([]byte(line), value.Interface()); err != nil {
			return err
		}
		if err := w.Write(value.Interface()); err != nil {
			return err
		}
		if o.Group > 0 && (i+1)%o.Group == 0 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, file.Bytes(), 0o644)
}

// shape is the type of a value as far as the values seen tell.
type shape struct {
	kind    string // "", string, int, float, bool, list, object
	element *shape
	keys    []string
	fields  map[string]*shape
}

func (s *shape) is(kind string) error {
	switch {
	case s.kind == "" || s.kind == kind || s.kind == "int" && kind == "float":
		s.kind = kind
	case s.kind == "float" && kind == "int":
	default:
		return fmt.Errorf("a %s where others are %s", kind, s.kind)
	}
	return nil
}

func (s *shape) read(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch v := token.(type) {
	case string:
		return s.is("string")
	case bool:
		return s.is("bool")
	case json.Number:
		if _, err := v.Int64(); err != nil {
			return s.is("float")
		}
		return s.is("int")
	case json.Delim:
		if v == '[' {
			return s.list(d)
		}
		return s.object(d)
	}
	return nil // null
}

func (s *shape) list(d *json.Decoder) error {
	if s.element == nil {
		s.element = &shape{}
	}
	for d.More() {
		if err := s.element.read(d); err != nil {
			return err
		}
	}
	_, err := d.Token()
	if err != nil {
		return err
	}
	return s.is("list")
}

func (s *shape) object(d *json.Decoder) error {
	if s.fields == nil {
		s.fields = map[string]*shape{}
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		key := token.(string)
		if s.fields[key] == nil {
			s.keys, s.fields[key] = append(s.keys, key), &shape{}
		}
		if err := s.fields[key].read(d); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	return s.is("object")
}

// typeOf returns a type that both encoding/json and the library know.
func (s *shape) typeOf(o Options) reflect.Type {
	switch s.kind {
	case "int":
		return reflect.TypeFor[int64]()
	case "float":
		return reflect.TypeFor[float64]()
	case "bool":
		return reflect.TypeFor[bool]()
	case "list":
		return reflect.SliceOf(s.element.typeOf(o))
	case "object":
		var fields []reflect.StructField
		for i, key := range s.keys {
			inner := s.fields[key]
			t, tag := inner.typeOf(o), key+",optional"
			if inner.kind == "list" {
				tag += ",list"
			} else {
				t = reflect.PointerTo(t)
			}
			if inner.kind != "list" && inner.kind != "object" {
				if o.Codec != "" {
					tag += "," + o.Codec
				}
				if o.Dictionary && inner.kind != "bool" {
					tag += ",dict"
				}
			}
			fields = append(fields, reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: t, Tag: reflect.StructTag(fmt.Sprintf("parquet:%q json:%q", tag, key))})
		}
		return reflect.StructOf(fields)
	default: // a column of nulls only is one of strings
		return reflect.TypeFor[string]()
	}
}
