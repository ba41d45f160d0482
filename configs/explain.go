package configs

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// Explain writes what a key means, its type, default, what is allowed and how to give it. A part's name, such as
// "train", lists what is below it; "" lists everything.
func Explain(w io.Writer, path string) error {
	schema := element.ReplaceAllString(path, "[]")
	if path == "" {
		for _, k := range Keys {
			if k.repeats {
				continue
			}
			fmt.Fprintf(w, "%-34s %-9s %s\n", k.Path, k.Type, k.Doc)
		}
		return nil
	}
	k, ok := find(schema)
	if !ok {
		return fmt.Errorf("no key %q; did you mean %q? `counterpoint config explain` lists all", path, spelling.Nearest(path, paths()))
	}
	fmt.Fprintf(w, "%s\n  %s\n  type      %s, %s\n", k.Path, k.Doc, k.Type, want(k))
	switch {
	case k.Needed:
		fmt.Fprintln(w, "  default   none: it must be given")
	case k.Default != nil:
		fmt.Fprintf(w, "  default   %v\n", k.Default)
	default:
		fmt.Fprintln(w, "  default   none")
	}
	if k.Type != "map" && k.Type != "list" {
		if !strings.Contains(k.Path, "[]") {
			fmt.Fprintf(w, "  environ   %s\n", envName(k.Path))
		}
		fmt.Fprintf(w, "  on a line --set %s=%s\n", strings.ReplaceAll(k.Path, "[]", "[0]"), k.Example)
	}
	if part, _, _ := strings.Cut(k.Path, "."); slices.Contains(overridable, strings.TrimSuffix(part, "[]")) {
		fmt.Fprintf(w, "  a stage   may have its own: stages[].%s\n", k.Path)
	}
	below := k.Path
	if k.Type == "list" {
		below += "[]"
	}
	for _, name := range children(below) {
		c, _ := find(join(below, name))
		fmt.Fprintf(w, "    %-22s %-9s %s\n", name, c.Type, c.Doc)
	}
	return nil
}

// JSONSchema returns a JSON Schema (2020-12) of the run file, so that editors complete and check it.
func JSONSchema() ([]byte, error) {
	root := object("")
	delete(root, "required")
	root["required"] = []string{"name"} // a file with stages may leave the rest to them
	root["if"] = map[string]any{"not": map[string]any{"required": []string{"stages"}}}
	root["then"] = needed("")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Counterpoint run"
	return json.MarshalIndent(root, "", "  ")
}

// needed is the schema of what must be given below a path, outside lists.
func needed(path string) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, name := range children(path) {
		k, _ := find(join(path, name))
		if k.Needed {
			required = append(required, name)
		}
		if k.Type == "map" {
			if below := needed(k.Path); len(below) > 0 {
				properties[name] = below
			}
		}
	}
	out := map[string]any{}
	if len(required) > 0 {
		out["required"] = required
	}
	if len(properties) > 0 {
		out["properties"] = properties
	}
	return out
}

// object is the schema of everything directly below a path.
func object(path string) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, name := range children(path) {
		k, _ := find(join(path, name))
		properties[name] = property(k)
		if k.Needed && strings.Contains(k.Path, "[]") {
			required = append(required, name)
		}
	}
	o := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

func property(k Key) map[string]any {
	p := map[string]any{}
	switch k.Type {
	case "map":
		if p = object(k.Path); k.repeats {
			p["type"] = []string{"object", "null"} // a stage may take a part away
		}
	case "list":
		p = map[string]any{"type": "array", "items": object(k.Path + "[]")}
	case "strings":
		word := map[string]any{"type": "string"}
		if len(k.Allowed) > 0 {
			word["enum"] = k.Allowed
		}
		p = map[string]any{"type": "array", "items": word}
	case "ints", "floats":
		return map[string]any{"type": "array", "items": property(k.element()), "description": k.Doc}
	case "int map", "float map":
		return map[string]any{"type": "object", "additionalProperties": property(k.element()), "description": k.Doc}
	case "int":
		p["type"] = "integer"
	case "float":
		p["type"] = "number"
	case "bool":
		p["type"] = "boolean"
	case "string", "duration":
		p["type"] = "string"
		if len(k.Allowed) > 0 {
			p["enum"] = k.Allowed
		}
	}
	p["description"] = k.Doc
	if k.Default != nil {
		p["default"] = k.Default
	}
	if k.Type == "int" || k.Type == "float" {
		if k.Min != nil && k.Above {
			p["exclusiveMinimum"] = k.Min
		} else if k.Min != nil {
			p["minimum"] = k.Min
		}
		if k.Max != nil {
			p["maximum"] = k.Max
		}
	}
	return p
}
