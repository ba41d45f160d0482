package main

import (
	"path/filepath"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// results writes what mteb would have written of the suites.
func (j *judge) results(dir string, results []evalResult) (string, error) {
	meta := evaluate.ModelMeta{Name: j.modelName, Revision: j.revision, MaxTokens: j.model.MaxLength, Dimension: j.model.Width()}
	if meta.Name == "" {
		meta.Name = filepath.Base(filepath.Clean(j.model.Dir))
	}
	if meta.Revision == "" {
		digest, err := j.identity()
		if err != nil {
			return "", err
		}
		meta.Revision = digest[:12]
	}
	var tasks []evaluate.TaskResult
	for _, r := range results {
		name, split, subset := mtebTask(&r, j.suite.Split, j.suite.Long)
		tasks = append(tasks, evaluate.TaskResult{
			Task: name, Split: split, Subset: subset, Language: j.language, DatasetRevision: r.digest[:12], Seconds: r.Seconds, Scores: evaluate.MTEBScores(&r.sheet, r.Metrics, r.run),
		})
	}
	return evaluate.WriteResults(dir, meta, tasks)
}

// mtebTask returns the name, split and subset under which mteb keeps a suite's result. BRIGHT has a task of its own for
// each set under version 1.1, where what a query excludes is removed, and one for all of them in the first, where it is
// kept. What mteb does not have goes by the suite's name.
func mtebTask(r *evalResult, split string, long bool) (name, part, subset string) {
	name, part = r.Task, split
	if r.sheet.Group != data.BrightTask {
		if name == "" {
			name = r.Suite
		}
		return name, part, ""
	}
	version := ""
	if part = "standard"; long {
		version, part = "Long", "long"
	}
	set := strings.TrimPrefix(strings.TrimSuffix(r.sheet.Name, "-excluded-"+data.KeepExcluded), r.Task+"-")
	switch r.sheet.Exclusion {
	case data.RemoveExcluded:
		name = "Bright"
		for word := range strings.SplitSeq(strings.Replace(set, "theoremqa", "theoremQA", 1), "_") {
			if word != "" {
				name += strings.ToUpper(word[:1]) + word[1:]
			}
		}
		return name + version + "Retrieval", part, ""
	case data.KeepExcluded:
		return "Bright" + version + "Retrieval", part, set
	}
	return r.Suite, part, ""
}
