package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Moved is a path of a run file that Portable has written out.
type Moved struct {
	Key     string `json:"key"`  // data[0].path
	From    string `json:"from"` // as it was written
	To      string `json:"to"`   // absolute
	Missing bool   `json:"missing,omitempty"`
}

// Portable returns a run file that means the same on another machine with the same files: its relative paths are
// absolute, from the file's folder, and the layers above the file are in it. A path that is not here may be there, so it is
// no error. Where no layer changes anything the text stays as it is but for the paths, comments included.
func Portable(file string, text []byte, layers Layers) (portable []byte, moved []Moved, err error) {
	m, _, err := read(file, text, layers, &moved)
	if err != nil {
		return nil, nil, err
	}
	if len(m.origin) == 0 {
		if patched, ok := m.src.patch(text, moved); ok {
			return patched, moved, nil
		}
	}
	// A text with other values than the file's is written anew.
	var tree any = m.src.values
	settings := m.v.AllSettings()
	for _, path := range slices.Sorted(maps.Keys(m.origin)) {
		value, ok := at(settings, path)
		if !ok {
			return nil, nil, fmt.Errorf("%s: no value was found", path)
		}
		if tree, err = put(tree, path, value); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, p := range moved {
		value, _ := at(tree, p.Key)
		was, ok := value.(string)
		if !ok || !strings.HasSuffix(was, p.From) {
			return nil, nil, fmt.Errorf("%s: %q is not where it was read", p.Key, p.From)
		}
		if tree, err = put(tree, p.Key, strings.TrimSuffix(was, p.From)+p.To); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", p.Key, err)
		}
	}
	out, err := yaml.Marshal(tree)
	return out, moved, err
}

// move records a path that is to be absolute. It is there or not, which is for another machine to say.
func (m *merger) move(key string, path *string) {
	abs, err := filepath.Abs(*path)
	if err != nil {
		m.fail(m.at(key), key, "%v", err)
		return
	}
	place := m.place(key)
	seen := slices.ContainsFunc(*m.moved, func(p Moved) bool { return p.Key == place })
	if from := m.spelled(key, *path); from != abs && !seen {
		_, err := os.Stat(abs)
		*m.moved = append(*m.moved, Moved{Key: place, From: from, To: abs, Missing: errors.Is(err, fs.ErrNotExist)})
	}
	*path = abs
}

// spelled is a path as it was written, before resolve put the file's folder before it.
func (m *merger) spelled(key, path string) string {
	if m.above(key) {
		return path
	}
	if value, ok := at(m.src.values, m.place(key)); ok {
		if text, ok := value.(string); ok {
			for _, from := range []string{text, text[strings.IndexByte(text, ':')+1:], text[strings.LastIndexByte(text, ':')+1:]} { // KIND:PATH, mteb:TASK:PATH
				if filepath.Join(filepath.Dir(m.src.file), from) == path || from == path {
					return from
				}
			}
		}
	}
	return path
}

// folders makes the folders that a run writes absolute, for Portable.
func (m *merger) folders(c *Config) {
	for key, dir := range map[string]*string{"checkpoint.dir": &c.Checkpoint.Dir, "log.dir": &c.Log.Dir} {
		if *dir != "" && !strings.Contains(*dir, "://") && m.given(key) {
			m.resolve(key, dir)
		}
	}
}

// at returns the value at a path of a tree.
func at(tree any, path string) (any, bool) {
	if path == "" {
		return tree, true
	}
	switch t := tree.(type) {
	case map[string]any:
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		below, ok := t[path[:end]]
		if !ok {
			return nil, false
		}
		return at(below, strings.TrimPrefix(path[end:], "."))
	case []any:
		var i int
		index, below, ok := strings.Cut(path, "]")
		if _, err := fmt.Sscanf(index, "[%d", &i); !ok || err != nil || i < 0 || i >= len(t) {
			return nil, false
		}
		return at(t[i], strings.TrimPrefix(below, "."))
	}
	return nil, false
}

// patch writes paths into the text where they stand. ok is false where one is not written as a plain or quoted word.
func (s *source) patch(text []byte, moved []Moved) (out []byte, ok bool) {
	lines := strings.SplitAfter(string(text), "\n")
	moved = slices.Clone(moved)
	slices.SortFunc(moved, func(a, b Moved) int { return s.value[b.Key].Column - s.value[a.Key].Column }) // from the right
	for _, p := range moved {
		pos, known := s.value[p.Key]
		value, _ := at(s.values, p.Key)
		word, isText := value.(string)
		if !known || !isText || pos.Line < 1 || pos.Line > len(lines) || !strings.HasSuffix(word, p.From) {
			return nil, false
		}
		line := []rune(lines[pos.Line-1])
		if pos.Column < 1 || pos.Column > len(line) {
			return nil, false
		}
		before, rest := string(line[:pos.Column-1]), string(line[pos.Column-1:])
		written := ""
		for _, form := range []string{word, `"` + word + `"`, "'" + word + "'"} {
			if strings.HasPrefix(rest, form) {
				written = form
			}
		}
		if written == "" {
			return nil, false
		}
		quoted, err := yaml.MarshalWithOptions(strings.TrimSuffix(word, p.From)+p.To, yaml.JSON())
		if err != nil {
			return nil, false
		}
		lines[pos.Line-1] = before + strings.TrimSpace(string(quoted)) + strings.TrimPrefix(rest, written)
	}
	return []byte(strings.Join(lines, "")), true
}
