package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write openapi.json")

// The committed document is the one that the table of routes and the types in it make.
func TestGoldenDocument(t *testing.T) {
	want := makeDocument(t)
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(openapi, want) {
		t.Errorf("openapi.json is not what the handlers are: go test ./coordinator/api -run Document -update writes it; read the difference before it is committed")
	}
}

// Every reference of the document leads somewhere, and every type in it is referred to.
func TestDocumentReferences(t *testing.T) {
	var doc struct {
		Components map[string]map[string]any `json:"components"`
	}
	if err := json.Unmarshal(openapi, &doc); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`"#/components/(\w+)/(\w+)"`).FindAllStringSubmatch(string(openapi), -1) {
		if doc.Components[m[1]][m[2]] == nil {
			t.Errorf("a reference to %s %s, which is not there", m[1], m[2])
		}
		used[m[1]+"/"+m[2]] = true
	}
	for kind, all := range doc.Components {
		for name := range all {
			if kind != "securitySchemes" && !used[kind+"/"+name] {
				t.Errorf("nothing refers to %s/%s", kind, name)
			}
		}
	}
}

type object = map[string]any

// makeDocument makes the OpenAPI document of the routes. Field comments of the Go types are its descriptions.
func makeDocument(t *testing.T) []byte {
	t.Helper()
	g := &generator{t: t, texts: comments(t, ".", ".."), schemas: object{}}
	paths := map[string]object{}
	for _, r := range routes {
		if paths[r.path] == nil {
			paths[r.path] = object{}
			if strings.Contains(r.path, "{run}") {
				paths[r.path]["parameters"] = []any{object{"$ref": "#/components/parameters/run"}}
			}
		}
		paths[r.path][strings.ToLower(r.method)] = g.operation(r)
	}
	g.schema(reflect.TypeFor[Problem]())
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Counterpoint", "version": "1",
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "The fleet over HTTP. Every coordinator answers every request and asks whoever leads; every request may be repeated. Errors are application/problem+json (RFC 9457). Without a leader the answer is 503 with Retry-After.",
		},
		"servers": []any{object{"url": DefaultServer, "description": "cluster.api, as it is when nothing else is said"}},
		"paths":   paths,
		"components": object{
			"schemas": g.schemas,
			"parameters": object{"run": object{
				"name": "run", "in": "path", "required": true, "schema": object{"type": "string"},
				"description": "the run's id, its name, or the beginning of either if only one begins so; of several runs of one name the one that is not over",
			}},
			"responses": object{"problem": object{
				"description": "what is wrong, what is allowed, and the nearest word", "content": object{ProblemType: object{"schema": object{"$ref": "#/components/schemas/Problem"}}},
			}},
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "description": "needed where the coordinator has tokens; a viewer's looks, an operator's steers as well"}},
		},
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

type generator struct {
	t       *testing.T
	texts   map[string]string // by Type or Type.Field
	schemas object
}

func (g *generator) operation(r route) object {
	op := object{"operationId": r.name, "summary": r.summary}
	if r.role != "" {
		op["security"] = []any{object{"token": []any{}}}
		op["description"] = fmt.Sprintf("Takes a token of role %s where there are tokens.", r.role)
	}
	var parameters []any
	for in, list := range map[string][]parameter{"query": r.query, "header": r.headers} {
		for _, p := range list {
			parameters = append(parameters, object{"name": p.name, "in": in, "description": p.text, "schema": object{"type": p.kind}})
		}
	}
	slices.SortFunc(parameters, func(a, b any) int { return strings.Compare(a.(object)["name"].(string), b.(object)["name"].(string)) })
	if parameters != nil {
		op["parameters"] = parameters
	}
	if r.body != nil {
		content := object{"application/json": object{"schema": g.schema(reflect.TypeOf(r.body))}}
		if r.file {
			content["application/yaml"] = object{"schema": object{"type": "string", "maxLength": MaxFile, "description": "the run file"}}
		}
		op["requestBody"] = object{"required": !r.lax, "content": content}
	}
	responses := object{"default": object{"$ref": "#/components/responses/problem"}}
	for status, v := range r.answers {
		schema := object{"type": "object"}
		if v != nil {
			schema = g.schema(reflect.TypeOf(v))
		}
		content := object{"application/json": object{"schema": schema}}
		if r.stream {
			content = object{NDJSONType: object{"schema": schema}, sseType: object{"schema": object{"type": "string"}}}
		}
		responses[fmt.Sprint(status)] = object{"description": map[int]string{200: "done", 201: "a new run", 202: "its data are still being read: send the same request again"}[status], "content": content}
	}
	byStatus := map[int][]string{}
	for _, code := range r.codes {
		status := problems[code].status
		byStatus[status] = append(byStatus[status], fmt.Sprintf("%s (%s)", problems[code].title, code))
	}
	for status, what := range byStatus {
		responses[fmt.Sprint(status)] = object{"description": strings.Join(what, "; "), "content": object{ProblemType: object{"schema": object{"$ref": "#/components/schemas/Problem"}}}}
	}
	op["responses"] = responses
	return op
}

// schema returns a reference to a struct's schema, or the schema of anything else.
func (g *generator) schema(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Pointer:
		return g.schema(t.Elem())
	case t.Kind() == reflect.Slice:
		return object{"type": "array", "items": g.schema(t.Elem())}
	case t.Kind() == reflect.Map:
		return object{"type": "object", "additionalProperties": g.schema(t.Elem())}
	case t.Kind() == reflect.String:
		return object{"type": "string"}
	case t.Kind() == reflect.Bool:
		return object{"type": "boolean"}
	case t.Kind() == reflect.Float64:
		return object{"type": "number"}
	case t.Kind() == reflect.Int64 || t.Kind() == reflect.Uint64:
		return object{"type": "integer", "format": "int64"}
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		return object{"type": "integer"}
	case t.Kind() != reflect.Struct:
		g.t.Fatalf("no schema for %v", t)
	}
	ref := object{"$ref": "#/components/schemas/" + t.Name()}
	if g.schemas[t.Name()] != nil {
		return ref
	}
	properties, required := object{}, []string{}
	schema := object{"type": "object", "properties": properties}
	g.schemas[t.Name()] = schema
	if text := g.texts[t.Name()]; text != "" {
		schema["description"] = text
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			g.t.Errorf("%v.%s has no JSON name", t, f.Name)
		}
		p := g.schema(f.Type)
		if text := g.texts[t.Name()+"."+f.Name]; text != "" {
			p["description"] = text
		}
		properties[name] = p
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			required = append(required, name)
		}
	}
	if len(required) > 0 {
		schema["required"] = required
	}
	return ref
}

// comments reads the comments of types and fields of the packages in some folders.
func comments(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				gen, ok := d.(*ast.GenDecl)
				if !ok {
					continue
				}
				for _, s := range gen.Specs {
					spec, ok := s.(*ast.TypeSpec)
					if !ok {
						continue
					}
					fields, ok := spec.Type.(*ast.StructType)
					if !ok {
						continue
					}
					texts[spec.Name.Name] = oneLine(gen.Doc.Text())
					for _, f := range fields.Fields.List {
						for _, n := range f.Names {
							texts[spec.Name.Name+"."+n.Name] = oneLine(strings.TrimSpace(f.Doc.Text() + " " + f.Comment.Text()))
						}
					}
				}
			}
		}
	}
	return texts
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
