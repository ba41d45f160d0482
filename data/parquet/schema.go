package parquet

import (
	"errors"
	"fmt"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
)

// Limits of a schema: far above what data has, far below what would exhaust a stack.
const (
	maxDepth  = 64
	maxFields = 10_000
)

// field is a node of the schema: a column, or a group of fields.
type field struct {
	name     string
	path     string // joined by points, for messages
	optional bool
	repeated bool
	list     bool // annotated LIST: its only field is repeated
	text     bool // a column annotated as text
	unsigned bool // a column of unsigned integers
	def, rep int  // levels at which it is there
	leaf     int  // number of the column; of a group, of its first
	leaves   int  // how many columns it has
	fields   []*field
}

// element reports whether a list's repeated group stands for its only field: the rules for older files in the
// format's LogicalTypes.md, "Backward-compatibility rules".
func (f *field) element(list string) bool {
	return len(f.fields) == 1 && f.name != "array" && f.name != list+"_tuple" && !f.fields[0].repeated
}

// schema makes the tree of the flat list that the file has.
func schema(elements []format.SchemaElement) (*field, error) {
	if len(elements) == 0 {
		return nil, errors.New("the file has no schema")
	}
	if len(elements) > maxFields {
		return nil, fmt.Errorf("the schema has %d fields, at most %d are supported", len(elements), maxFields)
	}
	s := schemaReader{elements: elements}
	root, err := s.field(&field{}, 0)
	if err == nil && s.at < len(elements) {
		err = fmt.Errorf("%d fields of the schema belong to no group", len(elements)-s.at)
	}
	if err == nil && (root.leaves == 0 || len(root.fields) == 0) {
		err = errors.New("the schema has no columns")
	}
	return root, err
}

type schemaReader struct {
	elements   []format.SchemaElement
	at, leaves int
}

func (s *schemaReader) field(parent *field, depth int) (*field, error) {
	if s.at >= len(s.elements) {
		return nil, fmt.Errorf("the schema ends inside the group %q", parent.path)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("the schema is nested more than %d deep", maxDepth)
	}
	e := &s.elements[s.at]
	s.at++
	f := &field{name: e.Name, path: e.Name, def: parent.def, rep: parent.rep, leaf: s.leaves}
	if depth == 0 {
		f.path = ""
	} else {
		if parent.path != "" {
			f.path = parent.path + "." + e.Name
		}
		switch e.RepetitionType.V {
		case format.Required:
		case format.Optional:
			f.optional, f.def = true, f.def+1
		case format.Repeated:
			f.repeated, f.def, f.rep = true, f.def+1, f.rep+1
		default:
			return nil, fmt.Errorf("column %q has the repetition %d, which does not exist", f.path, e.RepetitionType.V)
		}
	}
	f.annotate(e)
	if e.Type.Valid && e.NumChildren.V == 0 {
		f.leaves = 1
		s.leaves++
		return f, nil
	}
	for range e.NumChildren.V {
		child, err := s.field(f, depth+1)
		if err != nil {
			return nil, err
		}
		f.fields = append(f.fields, child)
	}
	f.leaves = s.leaves - f.leaf
	if f.leaves == 0 && depth > 0 {
		return nil, fmt.Errorf("the group %q has no columns", f.path)
	}
	f.list = f.list && len(f.fields) == 1 && f.fields[0].repeated
	return f, nil
}

func (f *field) annotate(e *format.SchemaElement) {
	if e.ConvertedType.Valid {
		switch e.ConvertedType.V {
		case deprecated.List:
			f.list = true
		case deprecated.UTF8, deprecated.Enum, deprecated.Json:
			f.text = true
		case deprecated.Uint8, deprecated.Uint16, deprecated.Uint32, deprecated.Uint64:
			f.unsigned = true
		}
	}
	switch t := e.LogicalType.Value.(type) {
	case *format.ListType:
		f.list = true
	case *format.StringType, *format.EnumType, *format.JsonType:
		f.text = true
	case *format.IntType:
		f.unsigned = !t.IsSigned
	}
}
