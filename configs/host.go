package configs

import (
	"reflect"
	"slices"
)

// hostKeys are the parts of a file that says nothing of a run.
var hostKeys = []string{"name", "cluster", "log"}

// hosts reports whether a file says nothing of a run: it is a coordinator's.
func (s *source) hosts() bool {
	for name := range s.values {
		if !slices.Contains(hostKeys, name) {
			return false
		}
	}
	return true
}

// host decodes the parts of a coordinator's file.
func (m *merger) host(tree map[string]any) *Config {
	c := &Config{Name: "coordinator", Hosts: true}
	d := &decoder{m: m}
	fields := reflect.ValueOf(c).Elem()
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Tag.Get("yaml")
		if name != "cluster" && name != "log" {
			continue
		}
		raw, ok := tree[name]
		if !ok {
			raw = map[string]any{}
		}
		k, _ := find(name)
		d.value(fields.Field(i), raw, k, name)
	}
	if len(m.errs) == 0 {
		checkCluster(c, m)
		m.clusterFiles(c)
	}
	return c
}
