package configs

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder fills the structs from the merged tree by the schema; field and key meet by the yaml tag.
type decoder struct{ m *merger }

func (d *decoder) config(tree map[string]any) *Config {
	c := &Config{}
	d.fill(reflect.ValueOf(c).Elem(), tree, "", "")
	return c
}

// fill decodes every key below a schema path into the struct dst.
func (d *decoder) fill(dst reflect.Value, tree map[string]any, schema, path string) {
	fields := map[string]reflect.Value{}
	for i := range dst.NumField() {
		name, _, _ := strings.Cut(dst.Type().Field(i).Tag.Get("yaml"), ",")
		fields[name] = dst.Field(i)
	}
	for _, name := range children(schema) {
		k, _ := find(join(schema, name))
		p := join(path, name)
		raw := tree[name]
		if raw == nil {
			switch {
			case k.Needed:
				d.m.fail(d.m.at(p), p, "missing; %s", want(k))
			case k.Default != nil:
				raw = k.Default
			}
		}
		if raw != nil {
			d.value(fields[name], raw, k, p)
		}
	}
}

// value decodes one value of key k.
func (d *decoder) value(dst reflect.Value, raw any, k Key, path string) {
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	bad := func() { d.m.fail(d.m.at(path), path, "found %s, %s", show(raw), want(k)) }
	switch k.Type {
	case "map":
		if tree, ok := raw.(map[string]any); ok {
			d.fill(dst, tree, k.Path, path)
		} else {
			bad()
		}
	case "list":
		list, ok := raw.([]any)
		if !ok {
			bad()
			return
		}
		if len(list) == 0 && k.Needed {
			d.m.fail(d.m.at(path), path, "the list is empty; it needs at least one entry with %s", strings.Join(children(k.Path+"[]"), ", "))
		}
		dst.Set(reflect.MakeSlice(dst.Type(), len(list), len(list)))
		for i, e := range list {
			p := fmt.Sprintf("%s[%d]", path, i)
			if tree, ok := e.(map[string]any); ok {
				d.fill(dst.Index(i), tree, k.Path+"[]", p)
			} else {
				d.m.fail(d.m.at(p), p, "found %s, want a mapping with %s", show(e), strings.Join(children(k.Path+"[]"), ", "))
			}
		}
	case "strings":
		d.strings(dst, raw, k, path)
	case "ints", "floats":
		list, ok := raw.([]any)
		if !ok {
			bad()
			return
		}
		dst.Set(reflect.MakeSlice(dst.Type(), len(list), len(list)))
		for i, e := range list {
			d.value(dst.Index(i), e, k.element(), fmt.Sprintf("%s[%d]", path, i))
		}
	case "int map", "float map":
		names, ok := raw.(named)
		if !ok {
			bad()
			return
		}
		dst.Set(reflect.MakeMap(dst.Type()))
		for _, name := range slices.Sorted(maps.Keys(names)) {
			v := reflect.New(dst.Type().Elem()).Elem()
			d.value(v, names[name], k.element(), join(path, name))
			dst.SetMapIndex(reflect.ValueOf(name), v)
		}
	case "string":
		if s, ok := raw.(string); ok {
			d.word(s, k, path)
			dst.SetString(s)
		} else {
			bad()
		}
	case "bool":
		if b, ok := raw.(bool); ok {
			dst.SetBool(b)
		} else {
			bad()
		}
	case "int":
		d.integer(dst, raw, k, path)
	case "float":
		f, ok := number(raw)
		if !ok || math.IsNaN(f) || math.IsInf(f, 0) || !within(f, k) {
			bad()
			return
		}
		dst.SetFloat(f)
	case "duration":
		s, _ := raw.(string)
		t, err := time.ParseDuration(s)
		if err != nil || !within(float64(t), k) {
			bad()
			return
		}
		dst.SetInt(int64(t))
	default:
		panic("configs: schema type " + k.Type)
	}
}

func (d *decoder) integer(dst reflect.Value, raw any, k Key, path string) {
	f, ok := number(raw)
	limit := float64(1 << 63) // exclusive
	if dst.CanUint() {
		limit *= 2
	}
	if u, full := raw.(uint64); full && dst.CanUint() && within(f, k) { // a seed may use all 64 bits
		dst.SetUint(u)
		return
	}
	if !ok || f != math.Trunc(f) || f >= limit || !within(f, k) {
		d.m.fail(d.m.at(path), path, "found %s, %s", show(raw), want(k))
		return
	}
	if dst.CanUint() {
		dst.SetUint(uint64(f))
		return
	}
	dst.SetInt(int64(f))
}

func (d *decoder) strings(dst reflect.Value, raw any, k Key, path string) {
	if s, ok := raw.(string); ok {
		raw = []any{s}
	}
	list, ok := raw.([]any)
	if !ok {
		d.m.fail(d.m.at(path), path, "found %s, %s", show(raw), want(k))
		return
	}
	var words []string
	for i, e := range list {
		s, ok := e.(string)
		p := fmt.Sprintf("%s[%d]", path, i)
		if !ok {
			d.m.fail(d.m.at(p), p, "found %s, want a word", show(e))
			continue
		}
		d.word(s, k, p)
		words = append(words, s)
	}
	dst.Set(reflect.ValueOf(words))
}

func (d *decoder) word(s string, k Key, path string) {
	if k.Needed && strings.TrimSpace(s) == "" {
		d.m.fail(d.m.at(path), path, "is empty; %s", want(k))
	}
	if len(k.Allowed) == 0 || s == "" {
		return
	}
	for _, a := range k.Allowed {
		if s == a {
			return
		}
	}
	d.m.fail(d.m.at(path), path, "found %q; %s", s, suggestion(s, k.Allowed))
}

// exponent is a number such as 1e-4, which YAML 1.1 takes for text because it has no point.
var exponent = regexp.MustCompile(`^[-+]?[0-9]+[eE][-+]?[0-9]+$`)

// number widens any YAML or default number.
func number(raw any) (float64, bool) {
	switch n := raw.(type) {
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	case uint64:
		return float64(n), true
	case float64:
		return n, true
	case string:
		if exponent.MatchString(n) {
			f, err := strconv.ParseFloat(n, 64)
			return f, err == nil
		}
	}
	return 0, false
}

// bound reads a Min or Max of the schema; durations are written as text.
func bound(v any) (float64, bool) {
	if s, ok := v.(string); ok {
		t, err := time.ParseDuration(s)
		return float64(t), err == nil
	}
	return number(v)
}

func within(f float64, k Key) bool {
	if lo, ok := bound(k.Min); ok && (f < lo || k.Above && f == lo) {
		return false
	}
	hi, ok := bound(k.Max)
	return !ok || f <= hi
}

// want says what a key accepts.
func want(k Key) string {
	kind := map[string]string{
		"string": "want a text", "int": "want a whole number", "float": "want a number", "bool": "want true or false",
		"duration": "want a duration with its unit", "strings": "want a list of words", "map": "want a mapping", "list": "want a list",
		"ints": "want a list of whole numbers", "floats": "want a list of numbers",
		"int map": "want a mapping of names to whole numbers", "float map": "want a mapping of names to numbers",
	}[k.Type]
	if len(k.Allowed) > 0 {
		kind = "want one of " + strings.Join(k.Allowed, ", ")
	}
	lo, hasLo := k.Min, k.Min != nil
	hi, hasHi := k.Max, k.Max != nil
	switch {
	case hasLo && hasHi && k.Above:
		kind += fmt.Sprintf(" above %v and at most %v", lo, hi)
	case hasLo && hasHi:
		kind += fmt.Sprintf(" from %v to %v", lo, hi)
	case hasLo && k.Above:
		kind += fmt.Sprintf(" above %v", lo)
	case hasLo:
		kind += fmt.Sprintf(", at least %v", lo)
	}
	if k.Example != "" && len(k.Allowed) == 0 && k.Type != "bool" {
		kind += fmt.Sprintf(" (such as %s)", k.Example)
	}
	return kind
}

// element is the key of one value of a list or mapping of numbers.
func (k Key) element() Key {
	k.Type = map[string]string{"ints": "int", "floats": "float", "int map": "int", "float map": "float"}[k.Type]
	k.Example = ""
	return k
}

// named is a mapping whose names are the user's own. A type of its own keeps viper from reading the dots in them as
// levels, and from writing them small.
type named map[string]any

// wrap makes the value of such a key named.
func (k Key) wrap(v any) any {
	if tree, ok := v.(map[string]any); ok && (k.Type == "int map" || k.Type == "float map") {
		return named(tree)
	}
	return v
}

// show writes a found value as a person would read it, with its kind.
func show(raw any) string {
	switch v := raw.(type) {
	case string:
		return fmt.Sprintf("%q (text)", v)
	case bool:
		return fmt.Sprintf("%v (true or false)", v)
	case map[string]any, named:
		return "a mapping"
	case []any:
		return "a list"
	}
	return fmt.Sprint(raw)
}
