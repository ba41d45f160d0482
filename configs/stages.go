package configs

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	objectstore "github.com/counterpoint-ml/counterpoint/checkpoints/object"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// What a stage does with the adapter of the one before.
const (
	Merged    = "merged"    // into the weights, below a new adapter or weights that train
	Continued = "continued" // it trains on
)

// Stage is an entry of stages: a run of its own, which is the file's run with the stage's keys over it.
type Stage struct {
	Name     string  `yaml:"name"`
	Previous string  `yaml:"previous"` // Merged or Continued; "" of the first, and after one that trains all parameters
	Config   *Config `yaml:"-"`        // its model's weights are those of the file: the caller puts in what the stage before has left
}

// overridable are the parts of a run that a stage may have of its own.
var overridable = []string{"model", "data", "loss", "train", "checkpoint", "evaluate"}

// Keys is the whole schema: those of a run, and those of a stage.
var Keys = slices.Concat(runKeys, stageKeys())

func stageKeys() []Key {
	out := []Key{
		{Path: "stages", Type: "list", Doc: "Runs one after another, each beginning with what the one before has made: this file with the stage's keys over it. A stage's lists replace the file's, and so does its loss if it has a kind; null takes a part away. Its files go to runs/NAME/STAGE."},
		{Path: "stages[].name", Type: "string", Needed: true, Doc: "Name of the stage: its folder, and what --set calls it (stages[NAME].train.steps=100).", Example: "mntp"},
		{Path: "stages[].previous", Type: "string", Allowed: []string{Merged, Continued}, Doc: "What becomes of the LoRA adapter of the stage before: merged into the weights (the default), or continued. A stage that trained all parameters hands its weights over.", Example: Merged},
	}
	for _, k := range runKeys {
		part, _, _ := strings.Cut(strings.TrimSuffix(k.Path, "[]"), ".")
		if part, _, _ = strings.Cut(part, "["); !slices.Contains(overridable, part) {
			continue
		}
		if !strings.Contains(k.Path, "[]") {
			k.Needed, k.Default = false, nil
		}
		k.Path, k.repeats = "stages[]."+k.Path, true
		out = append(out, k)
	}
	return out
}

// stages decodes a file that has stages; the result is the first one's run, under the file's name, with all of them.
func (m *merger) stages(tree map[string]any) *Config {
	list, ok := tree["stages"].([]any)
	if !ok || len(list) == 0 {
		m.fail(m.at("stages"), "stages", "found %s, want a list of mappings with name, and what differs from this file", show(tree["stages"]))
		return nil
	}
	base := maps.Clone(tree)
	delete(base, "stages")
	name, _ := base["name"].(string)
	var out []Stage
	for i, e := range list {
		m.stage = fmt.Sprintf("stages[%d]", i)
		own, ok := e.(map[string]any)
		if !ok {
			m.failStage("", "found %s, want a mapping with name, and what differs from this file", show(e))
			continue
		}
		if s := m.decodeStage(base, own, out); s.Config != nil {
			out = append(out, s)
		}
	}
	m.stage, m.replaced = "", nil
	if len(m.errs) > 0 {
		return nil
	}
	c := *out[0].Config
	c.Name, c.Log.Dir, c.Stages = name, text(base, "log", "dir"), out
	return &c
}

// decodeStage reads one stage, whose keys are own, over base; before are those before it. Its Config is nil if single
// values are at fault.
func (m *merger) decodeStage(base, own map[string]any, before []Stage) (s Stage) {
	d := &decoder{m: m}
	for key, dst := range map[string]*string{"name": &s.Name, "previous": &s.Previous} {
		k, _ := find("stages[]." + key)
		if raw := own[key]; raw != nil {
			d.value(reflect.ValueOf(dst).Elem(), raw, k, key)
		} else if k.Needed {
			m.failStage(key, "missing; %s", want(k))
		}
	}
	if s.Name != "" && !runName.MatchString(s.Name) {
		m.failStage("name", "found %q; it becomes a folder: letters, digits, `.`, `_` and `-`, at most 100", s.Name)
	}
	if slices.ContainsFunc(before, func(b Stage) bool { return b.Name == s.Name }) {
		m.failStage("name", "another stage is called %q", s.Name)
	}
	own = maps.Clone(own)
	delete(own, "name")
	delete(own, "previous")
	m.replaced = replaced(own)
	m.hidden()
	had := len(m.errs)
	c := d.config(overlay(base, own, ""))
	if len(m.errs) > had {
		return s
	}
	s.Config = c
	m.errs = append(m.errs, check(c, m)...)
	m.checkStage(&s, before)
	s.place()
	return s
}

// place gives a stage's run the name and folders of its own.
func (s *Stage) place() {
	c := s.Config
	if c.Log.Dir == "" {
		c.Log.Dir = filepath.Join("runs", c.Name)
	}
	c.Log.Dir = filepath.Join(c.Log.Dir, s.Name)
	if c.Checkpoint.Dir != "" {
		c.Checkpoint.Dir = filepath.Join(c.Checkpoint.Dir, s.Name)
	}
	if c.Checkpoint.Store != "" {
		c.Checkpoint.Store = objectstore.Join(c.Checkpoint.Store, s.Name)
	}
	c.Name += "-" + s.Name
}

// checkStage refuses a stage that does not fit the one before it, and fills in Previous.
func (m *merger) checkStage(s *Stage, before []Stage) {
	c := s.Config
	if len(before) == 0 {
		if s.Previous != "" {
			m.failStage("previous", "has no meaning for the first stage; model.adapter or model.merge begin with an adapter")
		}
		return
	}
	last := before[len(before)-1]
	for _, key := range []string{"path", "preset", "merge", "adapter"} {
		if m.givenBy("model." + key) {
			m.fail(m.at("model."+key), "model."+key, "the weights are those that stage %s has made; remove it", last.Name)
		}
	}
	c.Model.Merge, c.Model.Adapter = nil, "" // they are in what the first stage has made
	switch a, b := last.Config.Model.LoRA, c.Model.LoRA; {
	case a == nil:
		if s.Previous != "" {
			m.failStage("previous", "stage %s trains all parameters and has no adapter: its weights are handed over; remove it", last.Name)
		}
		return
	case s.Previous == "":
		s.Previous = Merged
	case s.Previous == Continued && b == nil:
		m.failStage("previous", "continued: this stage has no model.lora to continue stage %s's with", last.Name)
	case s.Previous == Continued:
		m.sameAdapter(a, b, last.Name)
	}
	preset := c.Model.Preset != "" && !slices.ContainsFunc(before, func(b Stage) bool { return b.Config.Model.LoRA == nil })
	if seed := last.Config.Train.Seed; preset && seed != c.Train.Seed {
		m.fail(m.at("train.seed"), "train.seed", "found %d, stage %s has %d: the weights of model.preset are drawn from it, so the stages above them need one seed", c.Train.Seed, last.Name, seed)
	}
}

// sameAdapter names what an adapter that continues has otherwise than the one before.
func (m *merger) sameAdapter(a, b *backbone.LoRAConfig, stage string) {
	all := func(targets []string) []string {
		if len(targets) == 0 || slices.Contains(targets, "all-linear") {
			return backbone.Targets
		}
		return slices.Sorted(slices.Values(targets))
	}
	for _, x := range []struct {
		key        string
		was, is    any
		comparable bool
	}{
		{"rank", a.Rank, b.Rank, a.Rank == b.Rank},
		{"alpha", a.Alpha, b.Alpha, a.Alpha == b.Alpha},
		{"rslora", a.RSLoRA, b.RSLoRA, a.RSLoRA == b.RSLoRA},
		{"targets", all(a.Targets), all(b.Targets), slices.Equal(all(a.Targets), all(b.Targets))},
		{"rank_pattern", a.RankPattern, b.RankPattern, maps.Equal(a.RankPattern, b.RankPattern)},
		{"alpha_pattern", a.AlphaPattern, b.AlphaPattern, maps.Equal(a.AlphaPattern, b.AlphaPattern)},
	} {
		if key := "model.lora." + x.key; !x.comparable {
			m.fail(m.at(key), key, "found %v, stage %s has %v: an adapter that is continued keeps its shape; take it back, or say previous: merged", x.is, stage, x.was)
		}
	}
}

// hidden reports a key of the environment or of --set that this stage of the file has for itself.
func (m *merger) hidden() {
	for _, path := range slices.Sorted(maps.Keys(m.origin)) {
		own := m.stage + "." + path
		_, set := m.origin[own]
		if _, written := m.src.at[own]; written && !set {
			m.errs = append(m.errs, Error{At: m.origin[path], Key: path, Text: fmt.Sprintf("the file has %s, which this does not reach; say which stage: %s", own, own)})
		}
	}
}

// failStage reports a fault of the stage's own key.
func (m *merger) failStage(key, format string, args ...any) {
	path := m.stage
	if key != "" {
		path = join(m.stage, key)
	}
	at, ok := m.origin[path]
	if !ok {
		if at, ok = m.src.value[path]; !ok {
			at = m.src.at[m.stage]
		}
	}
	m.errs = append(m.errs, Error{At: at, Key: path, Text: fmt.Sprintf(format, args...)})
}

// replaced lists the paths of a stage that replace the file's as a whole: lists, and a loss of another kind.
func replaced(own map[string]any) []string {
	var out []string
	var walk func(path string, tree map[string]any)
	walk = func(path string, tree map[string]any) {
		for name, v := range tree {
			p := join(path, name)
			switch v := v.(type) {
			case map[string]any:
				if _, kind := v["kind"]; kind && p == "loss" {
					out = append(out, p)
				}
				walk(p, v)
			case nil, []any, named:
				out = append(out, p)
			}
		}
	}
	walk("", own)
	return out
}

// overlay returns base with own over it; neither changes.
func overlay(base, own map[string]any, path string) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	if _, kind := own["kind"]; kind && path == "loss" {
		clear(out)
	}
	for name, v := range own {
		below, _ := out[name].(map[string]any)
		if tree, ok := v.(map[string]any); ok {
			out[name] = overlay(below, tree, join(path, name))
		} else {
			out[name] = v
		}
	}
	return out
}

// text is a text in a tree, "" if there is none.
func text(tree map[string]any, part, name string) string {
	below, _ := tree[part].(map[string]any)
	s, _ := below[name].(string)
	return s
}
