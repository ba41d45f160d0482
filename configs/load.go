package configs

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/viper"

	objectstore "github.com/counterpoint-ml/counterpoint/checkpoints/object"
	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// Layers are what stands above the file: the environment and --set.
type Layers struct {
	Env []string // as os.Environ gives it
	Set []string // key=value, value in YAML
	// Hosts allows a file with nothing of a run in it, cluster and log only: for a coordinator that hosts.
	Hosts bool
}

// Load reads a run file, merges defaults < file < COUNTERPOINT_* environment < --set, and decodes the result
// strictly. The error holds every fault, each with file:line:column, key, what was found and what is allowed.
func Load(file string, layers Layers) (*Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read run file: %w", err)
	}
	return Decode(file, text, layers)
}

// Decode is Load for a text that is already in memory; file names it and is the base of its relative paths.
func Decode(file string, text []byte, layers Layers) (*Config, error) {
	_, c, err := read(file, text, layers, nil)
	return c, err
}

// read is Decode. With moved, paths need not be there: those that are not absolute are, and are listed.
func read(file string, text []byte, layers Layers, moved *[]Moved) (*merger, *Config, error) {
	src := parse(file, text)
	if len(src.errs) > 0 && len(src.values) == 0 {
		return nil, nil, result(src.errs)
	}
	m := &merger{src: src, v: viper.New(), origin: map[string]Position{}, moved: moved}
	m.errs = append(m.errs, src.errs...)
	m.defaults()
	m.unknown(src.values, "", "")
	if err := m.v.MergeConfigMap(src.values); err != nil {
		return nil, nil, fmt.Errorf("merge %s: %w", file, err)
	}
	m.environment(layers.Env)
	m.set(layers.Set)
	tree := m.v.AllSettings()
	var c *Config
	if layers.Hosts && src.hosts() {
		c = m.host(tree)
	} else if _, staged := tree["stages"]; staged {
		c = m.stages(tree)
	} else if c = (&decoder{m: m}).config(tree); len(m.errs) == 0 {
		m.errs = append(m.errs, check(c, m)...)
	}
	if err := result(m.errs); err != nil {
		return nil, nil, err
	}
	return m, c, nil
}

// merger puts the layers into viper and remembers where each value came from.
type merger struct {
	src    *source
	v      *viper.Viper
	origin map[string]Position // of paths that the environment or --set gave
	errs   []Error
	moved  *[]Moved // for Portable; else nil

	stage    string   // "stages[0]" while that is decoded
	replaced []string // paths that the stage has instead of the file
}

// places lists where a path may be written down: in the stage that is decoded, and in the file.
func (m *merger) places(path string) []string {
	if m.stage == "" {
		return []string{path}
	}
	own := []string{join(m.stage, path)}
	for p := path; p != ""; p = parent(p) {
		if p != path && slices.Contains(m.replaced, p) {
			return own
		}
	}
	return append(own, path)
}

// at returns where the value of a path came from, walking up to the nearest parent that was written down.
func (m *merger) at(path string) Position {
	for p := path; p != ""; p = parent(p) {
		for _, place := range m.places(p) {
			if o, ok := m.origin[place]; ok {
				return o
			}
			table := m.src.at
			if p == path {
				table = m.src.value
			}
			if o, ok := table[place]; ok {
				return o
			}
		}
	}
	if m.stage != "" {
		return m.src.at[m.stage]
	}
	return Position{File: m.src.file, Line: 1, Column: 1}
}

// above says whether the environment or --set gave a path.
func (m *merger) above(path string) bool {
	return slices.ContainsFunc(m.places(path), func(p string) bool { _, ok := m.origin[p]; return ok })
}

// given says whether any layer above the defaults has the path.
func (m *merger) given(path string) bool {
	return slices.ContainsFunc(m.places(path), m.written)
}

// given says whether any layer above the defaults has the path in the stage that is decoded.
func (m *merger) givenBy(path string) bool { return m.written(join(m.stage, path)) }

func (m *merger) written(place string) bool {
	_, above := m.origin[place]
	_, file := m.src.at[place]
	return above || file
}

// place is a path under the name that it has where it is written; what is not is missing in the stage.
func (m *merger) place(path string) string {
	for _, p := range m.places(path) {
		if m.written(p) {
			return p
		}
	}
	return join(m.stage, path)
}

func (m *merger) fail(at Position, key, format string, args ...any) {
	if m.stage != "" && key != "" {
		key = m.place(key)
	}
	m.errs = append(m.errs, Error{At: at, Key: key, Text: fmt.Sprintf(format, args...)})
}

// optional says whether a path is below a part that may be absent as a whole, so that its defaults apply only
// when the part is there: the decoder does that.
func optional(path string) bool {
	return strings.Contains(path, "[]") || strings.HasPrefix(path, "model.lora")
}

func (m *merger) defaults() {
	for _, k := range Keys {
		if k.Default != nil && !optional(k.Path) {
			m.v.SetDefault(k.Path, k.Default)
		}
	}
}

// unknown reports keys of the file that the schema does not have.
func (m *merger) unknown(values map[string]any, schema, path string) {
	for name, v := range values {
		p, s := join(path, name), join(schema, name)
		k, ok := find(s)
		if !ok {
			m.fail(m.src.at[p], p, "unknown key; %s", suggestion(name, children(schema)))
			continue
		}
		values[name] = k.wrap(v)
		switch v := v.(type) {
		case map[string]any:
			if k.Type == "map" {
				m.unknown(v, s, p)
			}
		case []any:
			for i, e := range v {
				if em, ok := e.(map[string]any); ok && k.Type == "list" {
					m.unknown(em, s+"[]", fmt.Sprintf("%s[%d]", p, i))
				}
			}
		}
	}
}

// environment binds COUNTERPOINT_TRAIN_BATCH to train.batch, and so on for every key outside lists.
func (m *merger) environment(env []string) {
	names := map[string]string{}
	for _, k := range Keys {
		if k.Type != "map" && k.Type != "list" && !strings.Contains(k.Path, "[]") {
			names[envName(k.Path)] = k.Path
		}
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		rest, ours := strings.CutPrefix(name, "COUNTERPOINT_")
		if !ours {
			continue
		}
		at := Position{File: "environment " + name}
		path, ok := names[name]
		if !ok {
			section, _, nested := strings.Cut(strings.ToLower(rest), "_")
			if _, known := find(section); nested && known && section != "data" {
				m.fail(at, "", "no key has this name; did you mean %q?", spelling.Nearest(name, slices.Sorted(maps.Keys(names))))
			}
			continue
		}
		m.origin[path] = at
		k, _ := find(path)
		m.v.Set(path, k.wrap(scalar(value)))
	}
}

// scalar reads an environment value as YAML would, so that numbers and booleans have their type.
func scalar(text string) any {
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil || v == nil {
		return text
	}
	return v
}

func envName(path string) string {
	return "COUNTERPOINT_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// parent returns the path one level up: data[0].path -> data[0] -> data -> "".
func parent(path string) string {
	if strings.HasSuffix(path, "]") {
		return path[:strings.LastIndexByte(path, '[')]
	}
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[:i]
	}
	return ""
}

// resolve makes a path of the file relative to the file, and one of --set or the environment to the current
// folder, and reports a path that is not there.
func (m *merger) resolve(key string, path *string) {
	if *path == "" || objectstore.IsURL(*path) { // a URL is looked up when it is opened
		return
	}
	if !m.above(key) && !filepath.IsAbs(*path) {
		*path = filepath.Join(filepath.Dir(m.src.file), *path)
	}
	if m.moved != nil {
		m.move(key, path)
		return
	}
	if _, err := os.Stat(*path); err != nil {
		reason := err
		if pe, ok := err.(*fs.PathError); ok { //nolint:errorlint // os.Stat returns it bare
			reason = pe.Err
		}
		m.fail(m.at(key), key, "%s: %v", *path, reason)
	}
}
