package data

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// OpenSuites opens an evaluation set of any kind: mostly one suite, of a generated task one for each length, of a folder
// of LongEmbed or BRIGHT one for each of its sets.
func OpenSuites(c SuiteConfig, tok Tokenizer, cacheDir string, log *slog.Logger) ([]*Suite, error) {
	if c.Task == "" || c.Task == BEIRTask {
		s, err := OpenSuite(c, tok, cacheDir, log)
		if err != nil {
			return nil, err
		}
		return []*Suite{s}, nil
	}
	if c.MaxLength < 1 || c.MaxQuery < 0 {
		return nil, fmt.Errorf("open suite %s:%s: max_length: %d, max_query_length: %d; at least 1 is allowed", c.Task, c.Path, c.MaxLength, c.MaxQuery)
	}
	tasks, err := c.tasks(tok, log)
	if err != nil {
		return nil, err
	}
	var out []*Suite
	for _, t := range tasks {
		if c.Main != "" {
			t.sheet.Main = c.Main
		}
		if t.sheet.Exclusion != RemoveExcluded {
			t.sheet.Name += "-excluded-" + t.sheet.Exclusion // another number than the published one bears another name
		}
		s, err := t.suite(c, tok, log)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// tasks reads or makes the sets that a path stands for.
func (c SuiteConfig) tasks(tok Tokenizer, log *slog.Logger) ([]*task, error) {
	one := func(t *task, err error) ([]*task, error) {
		if err != nil {
			return nil, err
		}
		if t.sheet.Name = c.Name; c.Name == "" {
			t.sheet.Name = nameOf(c.Path)
		}
		return []*task{t}, nil
	}
	switch c.Task {
	case STSTask:
		return one(stsTask(c))
	case PairsTask:
		return one(pairsTask(c))
	case BitextTask:
		return one(bitextTask(c))
	case SummaryTask:
		return one(summaryTask(c))
	case ClassificationTask:
		return one(classificationTask(c, log))
	case ClusteringTask:
		return one(clusteringTask(c))
	case RerankTask:
		return one(rerankTask(c, log))
	case FollowIRTask:
		return one(followTask(c, log))
	case BrightTask:
		return c.each(brightSets, func(c SuiteConfig) (*task, error) { return brightTask(c, log) })
	case LongEmbedTask:
		if c.Path == Passkey || c.Path == Needle {
			return c.haystacks(tok)
		}
		return c.each(longSets, func(c SuiteConfig) (*task, error) { return longTask(c, "ndcg@10", log) })
	}
	problem := fmt.Sprintf("open suite %s: task %q; allowed: %s", c.Path, c.Task, strings.Join(Tasks, ", "))
	if near := spelling.Nearest(c.Task, Tasks); near != "" {
		problem += fmt.Sprintf("; did you mean %q?", near)
	}
	return nil, errors.New(problem)
}

// nameOf is a suite's name by its path: where the file is called like a split, its folder's name and the split.
func nameOf(path string) string {
	path = filepath.Clean(path)
	name := stem(filepath.Base(path))
	if slices.Contains([]string{"train", "dev", "test", "validation", "valid"}, name) {
		if above := filepath.Base(filepath.Dir(path)); above != "." && above != string(filepath.Separator) && above != ".." {
			return above + "-" + name
		}
	}
	return name
}

// The sets of the benchmarks that come as one folder.
var (
	longSets   = []string{"narrativeqa", "qmsum", "2wikimqa", "summ_screen_fd"}
	brightSets = []string{
		"biology", "earth_science", "economics", "psychology", "robotics", "stackoverflow", "sustainable_living", "leetcode", "pony", "aops", "theoremqa_questions",
		"theoremqa_theorems",
	}
)

// each opens the sets of a benchmark's folder: subfolders with their names, splits with their names, or the folder itself.
func (c SuiteConfig) each(sets []string, open func(c SuiteConfig) (*task, error)) ([]*task, error) {
	if info, err := os.Stat(c.Path); err != nil {
		return nil, fmt.Errorf("open suite: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("open suite %s: a file; a folder is needed", c.Path)
	}
	if c.Split != "" && !slices.Contains(sets, c.Split) && c.Task == BrightTask {
		return nil, fmt.Errorf("open suite %s: split: %q; %s is allowed", c.Path, c.Split, strings.Join(sets, ", "))
	}
	var out []*task
	for _, name := range sets {
		s := c
		switch {
		case c.Split != "" && c.Split != name && c.Task == BrightTask:
			continue
		case isDir(filepath.Join(c.Path, name)):
			s.Path = filepath.Join(c.Path, name)
		case c.Task == BrightTask && hasRows(c.Path, "examples", name):
			s.Split = name
		default:
			continue
		}
		t, err := open(s)
		if err != nil {
			return nil, err
		}
		t.sheet.Name, t.sheet.Group = name, c.Task
		if c.Name != "" {
			t.sheet.Name = c.Name + "-" + name
		}
		out = append(out, t)
	}
	if len(out) > 0 {
		return out, nil
	}
	t, err := open(c)
	if err != nil {
		return nil, err
	}
	if t.sheet.Name = c.Name; c.Name == "" {
		t.sheet.Name = filepath.Base(filepath.Clean(c.Path))
	}
	return []*task{t}, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func hasRows(dir, name, split string) bool {
	_, err := FindRows(dir, name, split)
	return err == nil
}

// haystacks makes the documents of a generated task, a suite for each length.
func (c SuiteConfig) haystacks(tok Tokenizer) ([]*task, error) {
	lengths := c.Lengths
	if lengths == nil {
		for n := 256; n <= 32768; n *= 2 {
			lengths = append(lengths, n)
		}
	}
	var out []*task
	for _, n := range lengths {
		if n < 1 {
			return nil, fmt.Errorf("open suite %s:%s: length %d; at least 1 is allowed", c.Task, c.Path, n)
		}
		hay, err := Haystack{Task: c.Path, Length: n, Seed: c.Seed, Filler: c.Filler}.Generate(tok)
		if err != nil {
			return nil, err
		}
		name := c.Name
		if name == "" {
			name = c.Path
		}
		s := Sheet{Name: fmt.Sprintf("%s-%d", name, n), Group: name, Main: "ndcg@1", Qrels: Qrels{}}
		for i := range hay.Documents {
			s.Documents = append(s.Documents, fmt.Sprintf("%d_doc%d", n, i))
		}
		for i := range hay.Queries {
			s.Queries = append(s.Queries, fmt.Sprintf("%d_q%d", n, i))
			s.Qrels[s.Queries[i]] = map[string]int{s.Documents[hay.Answer[i]]: 1}
		}
		out = append(out, &task{sheet: s, columns: []column{
			{name: "queries of " + s.Name, query: true, instruction: c.Instruction, texts: hay.Queries},
			{name: "documents of " + s.Name, instruction: c.Document, texts: hay.Documents},
		}})
	}
	return out, nil
}
