package checkpoints

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// IdentityError says that a checkpoint is of a run with other settings that decide its numbers.
type IdentityError struct {
	Name        string // of the checkpoint
	Have, Want  string // digests
	Differences []string
}

// Error lists the differences, one a line.
func (e *IdentityError) Error() string {
	var out strings.Builder
	fmt.Fprintf(&out, "checkpoint %s is of another run: its identity is %.12s, this run's %.12s", e.Name, e.Have, e.Want)
	for _, d := range e.Differences {
		out.WriteString("\n  " + d)
	}
	return out.String()
}

// Differences compares two JSON specs field by field: "train.seed: 42 in the checkpoint, 43 now". Paths are sorted.
func Differences(have, want []byte) []string {
	a, b := map[string]string{}, map[string]string{}
	if err := flatten(a, have); err != nil {
		return []string{"the checkpoint's spec cannot be read: " + err.Error()}
	}
	if err := flatten(b, want); err != nil {
		return []string{"this run's spec cannot be read: " + err.Error()}
	}
	var out []string
	for path, x := range a {
		if y, ok := b[path]; !ok {
			out = append(out, fmt.Sprintf("%s: %s in the checkpoint, not set now", path, x))
		} else if x != y {
			out = append(out, fmt.Sprintf("%s: %s in the checkpoint, %s now", path, x, y))
		}
	}
	for path, y := range b {
		if _, ok := a[path]; !ok {
			out = append(out, fmt.Sprintf("%s: not set in the checkpoint, %s now", path, y))
		}
	}
	sort.Strings(out)
	return out
}

func flatten(into map[string]string, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // so that seeds beyond 2^53 differ
	var v any
	if err := dec.Decode(&v); err != nil {
		return err
	}
	walk(into, "", v)
	return nil
}

func walk(into map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			walk(into, strings.TrimPrefix(path+"."+key, "."), inner)
		}
	case []any:
		for i, inner := range v {
			walk(into, fmt.Sprintf("%s[%d]", path, i), inner)
		}
	default:
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte(err.Error())
		}
		into[path] = string(text)
	}
}
