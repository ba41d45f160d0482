package evaluate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
)

// TaskResult is a suite's scores as mteb keeps them: results/MODEL/REVISION/TASK.json, of which it is one split and one
// subset.
type TaskResult struct {
	Task, Split, Language string
	Subset                string // "" = default
	DatasetRevision       string
	Scores                map[string]float64 // by mteb's names, main_score among them
	Seconds               float64
}

// ModelMeta is what model_meta.json beside the results says of the model.
type ModelMeta struct {
	Name, Revision string
	MaxTokens      int
	Dimension      int
}

// MTEBScores returns the scores of a suite by mteb's names: those of Score for tasks that are not retrieval, and MTEB's of
// a run. main_score is the metric that stands for the task there.
func MTEBScores(sheet *data.Sheet, metrics map[string]float64, run Run) map[string]float64 {
	out := map[string]float64{}
	if run == nil {
		for name, v := range metrics {
			out[name] = v
		}
		return out
	}
	for name, v := range MTEB(run, sheet.Qrels) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		if !strings.HasPrefix(name, "nauc") && !strings.HasPrefix(name, "mrr") {
			v = math.Round(v*1e5) / 1e5
		}
		out[name] = v
	}
	if v, ok := metrics["p-mrr"]; ok {
		out["p-MRR"] = v
	}
	name, ok := map[string]string{"p-mrr": "p-MRR", "map": "map_at_1000", "r@1": "recall_at_1"}[Main(sheet)]
	if !ok {
		name = strings.Replace(Main(sheet), "@", "_at_", 1)
	}
	if main, ok := out[name]; ok {
		out[MainScore] = main
	} else {
		out[MainScore] = metrics[MainScore]
	}
	return out
}

// WriteResults writes the results of a model under dir and returns the folder that they are in.
func WriteResults(dir string, model ModelMeta, tasks []TaskResult) (string, error) {
	folder := filepath.Join(dir, strings.ReplaceAll(model.Name, "/", "__"), model.Revision)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("results: %w", err)
	}
	meta := map[string]any{
		"name": model.Name, "revision": model.Revision, "release_date": nil, "languages": nil, "loader": nil, "n_parameters": nil, "memory_usage_mb": nil,
		"max_tokens": model.MaxTokens, "embed_dim": model.Dimension, "license": nil, "open_weights": true, "public_training_code": nil, "public_training_data": nil,
		"framework": []string{}, "reference": nil, "similarity_fn_name": "cosine", "use_instructions": true, "training_datasets": nil, "adapted_from": nil,
		"superseded_by": nil, "is_cross_encoder": nil, "modalities": []string{"text"},
	}
	if err := writeJSON(filepath.Join(folder, "model_meta.json"), meta); err != nil {
		return "", err
	}
	byTask := map[string][]TaskResult{}
	for _, t := range tasks {
		byTask[t.Task] = append(byTask[t.Task], t)
	}
	for _, name := range sortedKeys(byTask) {
		if err := writeJSON(filepath.Join(folder, name+".json"), taskFile(byTask[name])); err != nil {
			return "", err
		}
	}
	return folder, nil
}

// taskFile is the content of a task's file: its splits and their subsets. Of two results of the same both are kept.
func taskFile(parts []TaskResult) map[string]any {
	splits, seconds := map[string][]any{}, 0.0
	for _, t := range parts {
		scores := map[string]any{"hf_subset": cmp.Or(t.Subset, "default"), "languages": []string{t.Language}}
		for name, v := range t.Scores {
			scores[name] = v
		}
		split := cmp.Or(t.Split, "test")
		splits[split] = append(splits[split], scores)
		seconds += t.Seconds
	}
	return map[string]any{
		"dataset_revision": parts[0].DatasetRevision, "task_name": parts[0].Task, "mteb_version": "2.20.0", "scores": splits,
		"evaluation_time": seconds, "kg_co2_emissions": nil,
	}
}

// writeJSON writes a file whole or not at all.
func writeJSON(path string, v any) error {
	return writeFile(path, func(w io.Writer, _ string) error {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(v)
	})
}
