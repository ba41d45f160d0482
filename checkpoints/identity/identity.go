// Package identity compares the settings that decide a run's result, as a checkpoint and as a log keep them.
package identity

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Difference is a setting that two runs have otherwise, as JSON writes it; "" where one has none.
type Difference struct{ Path, Before, Now string }

// Differences compares two JSON documents leaf by leaf, by path. What only follows from another difference is left out:
// the data's digest covers the order, which covers batch, length and seed, and an order's keys repeat some of the trainer's.
func Differences(before, now []byte) ([]Difference, error) {
	a, err := leaves(before)
	if err != nil {
		return nil, fmt.Errorf("settings before: %w", err)
	}
	b, err := leaves(now)
	if err != nil {
		return nil, fmt.Errorf("settings now: %w", err)
	}
	var all []Difference
	for path, x := range a {
		if y := b[path]; x != y {
			all = append(all, Difference{path, x, y})
		}
	}
	for path, y := range b {
		if _, had := a[path]; !had {
			all = append(all, Difference{path, "", y})
		}
	}
	slices.SortFunc(all, func(x, y Difference) int { return cmp.Compare(x.Path, y.Path) })
	return slices.DeleteFunc(slices.Clone(all), func(d Difference) bool { return follows(d, all) }), nil
}

// follows reports whether a difference is only the consequence of another.
func follows(d Difference, all []Difference) bool {
	if name, ok := strings.CutPrefix(d.Path, "order."); ok {
		return slices.ContainsFunc(all, func(o Difference) bool {
			return strings.HasPrefix(o.Path, "trainer.") && strings.HasSuffix(o.Path, "."+name) && o.Before == d.Before && o.Now == d.Now
		})
	}
	return d.Path == "data_digest" && slices.ContainsFunc(all, func(o Difference) bool {
		return strings.HasPrefix(o.Path, "order.") || strings.HasPrefix(o.Path, "data[")
	})
}

// leaves returns the leaves of a JSON document by dotted path; none of an empty one.
func leaves(document []byte) (map[string]string, error) {
	out := map[string]string{}
	if len(document) == 0 {
		return out, nil
	}
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.UseNumber() // so that seeds beyond 2^53 differ
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return out, walk(out, "", v)
}

func walk(out map[string]string, path string, v any) error {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if err := walk(out, strings.TrimPrefix(path+"."+key, "."), inner); err != nil {
				return err
			}
		}
	case []any:
		for i, inner := range v {
			if err := walk(out, fmt.Sprintf("%s[%d]", path, i), inner); err != nil {
				return err
			}
		}
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		out[path] = string(text)
	}
	return nil
}
