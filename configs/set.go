package configs

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// element is the index of a list's element in a path.
var element = regexp.MustCompile(`\[\d+\]`)

// set applies key=value pairs; a list's element is named data[0].limit.
func (m *merger) set(pairs []string) {
	for _, pair := range pairs {
		path, text, ok := strings.Cut(pair, "=")
		at := Position{File: "--set " + pair}
		if !ok {
			m.fail(at, "", "want key=value")
			continue
		}
		path = m.numbered(strings.TrimSpace(path))
		schema := element.ReplaceAllString(path, "[]")
		k, known := find(schema)
		if !known {
			m.fail(at, path, "unknown key; did you mean %q?", spelling.Nearest(path, paths()))
			continue
		}
		var value any = text
		if k.Type != "string" && k.Type != "duration" {
			var parsed any
			if err := yaml.Unmarshal([]byte(text), &parsed); err != nil {
				m.fail(at, path, "the value is no YAML: %v", err)
				continue
			}
			value = k.wrap(parsed)
		}
		m.origin[path] = at
		if element.MatchString(path) {
			m.setElement(at, path, value)
			continue
		}
		m.v.Set(path, value)
	}
}

// numbered puts a stage's number for its name: stages[mntp].train.steps becomes stages[0].train.steps.
func (m *merger) numbered(path string) string {
	rest, ok := strings.CutPrefix(path, "stages[")
	name, below, shut := strings.Cut(rest, "]")
	if !ok || !shut {
		return path
	}
	stages, _ := m.v.Get("stages").([]any)
	for i, s := range stages {
		if tree, _ := s.(map[string]any); tree["name"] == name {
			return fmt.Sprintf("stages[%d]%s", i, below)
		}
	}
	return path
}

// setElement changes one element's key inside a list, which viper cannot address.
func (m *merger) setElement(at Position, path string, value any) {
	open := strings.IndexByte(path, '[')
	changed, err := put(m.v.Get(path[:open]), path[open:], value)
	if err != nil {
		m.fail(at, path, "%v", err)
		return
	}
	m.v.Set(path[:open], changed)
}

// put returns a tree with value at a path below it, such as "[0].train.steps". The tree itself does not change.
func put(old any, path string, value any) (any, error) {
	if index, below, ok := strings.Cut(path, "]"); ok && path[0] == '[' {
		list, _ := old.([]any)
		i, _ := strconv.Atoi(index[1:])
		if i >= len(list) {
			return nil, fmt.Errorf("the list has %d elements", len(list))
		}
		if below == "" {
			return nil, errors.New("want the key of an element, such as [0].path")
		}
		list = slices.Clone(list)
		var err error
		list[i], err = put(list[i], strings.TrimPrefix(below, "."), value)
		return list, err
	}
	if path == "" {
		return value, nil
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		end = len(path)
	}
	tree, _ := old.(map[string]any)
	tree = maps.Clone(tree)
	if tree == nil {
		tree = map[string]any{}
	}
	var err error
	tree[path[:end]], err = put(tree[path[:end]], strings.TrimPrefix(path[end:], "."), value)
	return tree, err
}
