package configs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/spelling"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// ParseSuite reads a suite as evaluate.suites[].path and the command line have it: PATH, KIND:PATH or mteb:TASK:PATH.
// A task of mteb's brings its kind, its name and its instruction.
func ParseSuite(spec string) (evaluate.Suite, error) {
	task, path, err := data.ParseSuite(spec)
	if err != nil {
		return evaluate.Suite{}, err
	}
	s := evaluate.Suite{Task: task, Path: path}
	if task != data.MTEBTask {
		return s, nil
	}
	name, path, ok := strings.Cut(path, ":")
	if !ok || path == "" {
		return s, fmt.Errorf("suite %q: mteb:TASK:PATH is needed, with PATH the task's folder or file", spec)
	}
	t, ok := MTEB(name)
	if !ok {
		names := make([]string, len(Tasks))
		for i, t := range Tasks {
			names[i] = t.Name
		}
		hint := "write KIND:PATH for a task that is not among them"
		if near := spelling.Nearest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return s, fmt.Errorf("suite %q: task %q is not known; allowed: %s; %s", spec, name, strings.Join(names, ", "), hint)
	}
	return evaluate.Suite{Task: t.Kind, MTEB: t.Name, Path: path, Instruction: t.Instruction, Document: t.Document, Main: t.Main, Split: t.Split, Identical: t.Identical}, nil
}

// suite checks evaluate.suites[i], whose path becomes kind and path.
func (m *merger) suite(i int, s *evaluate.Suite) {
	at := func(name string) string { return fmt.Sprintf("evaluate.suites[%d].%s", i, name) }
	if s.Path == "" {
		return // reported as missing
	}
	parsed, err := ParseSuite(s.Path)
	if err != nil {
		m.fail(m.at(at("path")), at("path"), "%v", err)
		return
	}
	generated := parsed.Task == data.LongEmbedTask && (parsed.Path == data.Passkey || parsed.Path == data.Needle)
	for _, k := range []struct {
		name   string
		given  bool
		useful bool
		of     string
	}{
		{"lengths", s.Lengths != nil, generated, "longembed:passkey and longembed:needle"},
		{"seed", s.Seed != 0, generated, "longembed:passkey and longembed:needle"},
		{"filler", s.Filler != "", generated, "longembed:passkey and longembed:needle"},
		{"long", s.Long, parsed.Task == data.BrightTask, "bright"},
		{"excluded", s.Excluded != "", parsed.Task == data.BrightTask, "bright"},
		{"ignore_identical", s.Identical, parsed.Task == data.BEIRTask, "folders in BEIR layout"},
	} {
		if k.given && !k.useful {
			m.fail(m.at(at(k.name)), at(k.name), "has no meaning for %s; it is a setting of %s", s.Path, k.of)
		}
	}
	s.Task, s.MTEB, s.Path, s.Identical = parsed.Task, parsed.MTEB, parsed.Path, s.Identical || parsed.Identical
	for _, x := range []struct {
		own   *string
		usual string
	}{{&s.Instruction, parsed.Instruction}, {&s.Document, parsed.Document}, {&s.Main, parsed.Main}, {&s.Split, parsed.Split}} {
		if *x.own == "" {
			*x.own = x.usual
		}
	}
	if !generated {
		m.resolve(at("path"), &s.Path)
	}
	m.resolve(at("filler"), &s.Filler)
}

// Task is one of mteb's tasks, as far as it is needed to evaluate a local copy of its data.
type Task struct {
	Name        string
	Kind        string // one of data.Tasks
	Instruction string // before queries, or before every text where both sides are alike
	Document    string
	Main        string // "" = the kind's own
	Split       string // "" = test, or the only one
	Identical   bool   // a query does not find the document with its id: mteb's ignore_identical_ids
	Paper       bool   // among the 15 of the paper (arXiv 2505.15045, table of MTEB)
}

// MTEB returns a task by its name, capitals aside.
func MTEB(name string) (Task, bool) {
	i := slices.IndexFunc(Tasks, func(t Task) bool { return strings.EqualFold(t.Name, name) })
	if i < 0 {
		return Task{}, false
	}
	return Tasks[i], true
}
