package coordinator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// IdentityError says that a folder's run is not the one that was to be resumed.
type IdentityError struct {
	Run         string
	State       string
	Differences []string // "key: committed -> now"
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("this folder holds run %s (%s) with other settings; a run's model, data, loss, train and shard settings cannot change. "+
		"Give the changed run another name, or take these back:\n  %s", e.Run, e.State, strings.Join(e.Differences, "\n  "))
}

// DataError says that the data behind a run's settings changed.
type DataError struct{ Run, Committed, Found string }

func (e *DataError) Error() string {
	return fmt.Sprintf("the data of run %s changed: its digest was %s and is %s now; the settings are the same, so a file's content differs", e.Run, e.Committed, e.Found)
}

// differences compares two JSON documents key by key.
func differences(committed, now []byte) []string {
	was, is := map[string]string{}, map[string]string{}
	flatten(committed, was)
	flatten(now, is)
	keys := maps.Clone(was)
	maps.Copy(keys, is)
	var out []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		a, hadA := was[key]
		b, hasB := is[key]
		switch {
		case a == b && hadA == hasB:
		case !hadA:
			out = append(out, fmt.Sprintf("%s: not set -> %s", key, b))
		case !hasB:
			out = append(out, fmt.Sprintf("%s: %s -> not set", key, a))
		default:
			out = append(out, fmt.Sprintf("%s: %s -> %s", key, a, b))
		}
	}
	return out
}

// flatten writes the leaves of a JSON document into out, by dotted path.
func flatten(document []byte, out map[string]string) {
	var v any
	numbers := json.NewDecoder(bytes.NewReader(document))
	numbers.UseNumber() // seeds beyond 2^53 differ too
	if numbers.Decode(&v) != nil {
		out["(settings)"] = string(document)
		return
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, x := range v {
				walk(strings.TrimPrefix(path+"."+key, "."), x)
			}
		case []any:
			for i, x := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), x)
			}
		default:
			b, _ := json.Marshal(v) // came from JSON
			out[path] = string(b)
		}
	}
	walk("", v)
}
