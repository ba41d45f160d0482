package configs

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Position is a place in a file; Line 0 means that there is none (a default, the environment, --set).
type Position struct {
	File         string
	Line, Column int
}

func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// source is the file layer: its values as a tree, and where each path stands.
type source struct {
	file   string
	values map[string]any
	at     map[string]Position // by concrete path: "train.batch", "data[0].path"; position of the key
	value  map[string]Position // position of the value
	order  []string            // paths in file order
	errs   []Error
}

// parse reads a YAML document into a tree with positions. Duplicate keys and tabs in the indentation are
// collected as errors; a document that is no YAML at all is one error.
func parse(file string, text []byte) *source {
	s := &source{file: file, values: map[string]any{}, at: map[string]Position{}, value: map[string]Position{}}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if s.tabs(text); len(s.errs) > 0 {
		return s
	}
	doc, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		s.errs = append(s.errs, syntaxError(file, err))
		return s
	}
	var body ast.Node
	for _, d := range doc.Docs {
		if d.Body == nil {
			continue
		}
		if body != nil {
			s.fail(s.position(d.Body), "", "a second YAML document; one file describes one run")
			return s
		}
		body = d.Body
	}
	if body == nil {
		s.errs = append(s.errs, Error{At: Position{File: file, Line: 1, Column: 1}, Text: "the file is empty; it needs at least name, model, data and train (see `counterpoint config example`)"})
		return s
	}
	if _, ok := body.(ast.MapNode); !ok {
		s.fail(s.position(body), "", "found %s, want `key: value` lines at the top level", describe(body))
		return s
	}
	if m, ok := s.convert(body, "").(map[string]any); ok {
		s.values = m
	}
	return s
}

// tabs reports tabs in indentation, which YAML forbids and editors hide.
func (s *source) tabs(text []byte) {
	for i, line := range bytes.Split(text, []byte("\n")) {
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if c := bytes.IndexByte(indent, '\t'); c >= 0 && len(bytes.TrimSpace(line)) > 0 {
			s.fail(Position{s.file, i + 1, c + 1}, "", "a tab in the indentation; YAML allows blanks only")
		}
	}
}

// convert turns a node into map[string]any, []any, string, bool, int64, uint64, float64 or nil.
func (s *source) convert(n ast.Node, path string) any {
	switch n := n.(type) {
	case *ast.MappingValueNode:
		return s.mapping([]*ast.MappingValueNode{n}, path)
	case *ast.MappingNode:
		return s.mapping(n.Values, path)
	case *ast.SequenceNode:
		list := make([]any, 0, len(n.Values))
		for i, v := range n.Values {
			p := fmt.Sprintf("%s[%d]", path, i)
			s.note(p, s.position(v), s.position(v))
			list = append(list, s.convert(v, p))
		}
		return list
	case *ast.NullNode:
		return nil
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		s.fail(s.position(n), path, "found %s; anchors, aliases and tags are not used in run files", describe(n))
		return nil
	case *ast.LiteralNode:
		return strings.TrimRight(n.Value.Value, "\n")
	case ast.ScalarNode:
		return n.GetValue()
	}
	s.fail(s.position(n), path, "found %s, which a run file cannot have here", describe(n))
	return nil
}

func (s *source) mapping(values []*ast.MappingValueNode, path string) map[string]any {
	m := make(map[string]any, len(values))
	for _, v := range values {
		name := keyText(v.Key)
		p := name
		if path != "" {
			p = path + "." + name
		}
		at := s.position(v.Key)
		if first, dup := s.at[p]; dup {
			s.fail(at, p, "the key stands twice; first on line %d", first.Line)
			continue
		}
		s.note(p, at, s.position(v.Value))
		m[name] = s.convert(v.Value, p)
	}
	return m
}

func (s *source) note(path string, key, value Position) {
	if _, ok := s.at[path]; !ok {
		s.order = append(s.order, path)
		s.at[path], s.value[path] = key, value
	}
}

func (s *source) position(n ast.Node) Position {
	switch m := n.(type) { // a mapping's own token is its first colon
	case *ast.MappingValueNode:
		n = m.Key
	case *ast.MappingNode:
		if len(m.Values) > 0 && !m.IsFlowStyle {
			n = m.Values[0].Key
		}
	}
	t := n.GetToken()
	if t == nil || t.Position == nil {
		return Position{File: s.file, Line: 1, Column: 1}
	}
	return Position{s.file, t.Position.Line, t.Position.Column}
}

func (s *source) fail(at Position, path, format string, args ...any) {
	s.errs = append(s.errs, Error{At: at, Key: path, Text: fmt.Sprintf(format, args...)})
}

func keyText(n ast.MapKeyNode) string {
	if t := n.GetToken(); t != nil {
		return t.Value
	}
	return n.String()
}

func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.AnchorNode:
		return "an anchor (&)"
	case *ast.AliasNode:
		return "an alias (*)"
	case *ast.TagNode:
		return "a tag (!)"
	}
	return fmt.Sprintf("%q", strings.TrimSpace(n.String()))
}
