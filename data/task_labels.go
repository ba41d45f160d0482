package data

import (
	"fmt"
	"log/slog"
	"slices"
)

// classificationTask reads FOLDER with train and test rows {text, label}; Split names another test split.
func classificationTask(c SuiteConfig, log *slog.Logger) (*task, error) {
	split := c.Split
	if split == "" {
		split = "test"
	}
	t := &task{sheet: Sheet{Kind: ClassificationTask, Labels: [][]string{nil}}}
	for i, name := range []string{"train", split} {
		path, err := FindRows(c.Path, "", name)
		if err != nil {
			if path, err = FindRows(c.Path, name, name); err != nil {
				return nil, fmt.Errorf("open suite: %w", err)
			}
		}
		var texts []string
		err = eachRow(path, func(row *Row) error {
			key, err := oneOf(row, "text", "sentence")
			if err != nil {
				return err
			}
			text, err := row.Text(key)
			if err != nil {
				return err
			}
			if key, err = oneOf(row, "label", "labels", "label_text", "intent"); err != nil {
				return err
			}
			label, err := row.ID(key)
			texts = append(texts, text)
			t.sheet.Labels[0] = append(t.sheet.Labels[0], label)
			return err
		})
		if err != nil {
			return nil, err
		}
		t.columns = append(t.columns, column{name: path, instruction: c.Instruction, texts: texts})
		if i == 0 {
			t.sheet.Train = len(texts)
		}
	}
	train := t.sheet.Labels[0][:t.sheet.Train]
	known := map[string]bool{}
	for _, l := range train {
		known[l] = true
	}
	if len(known) < 2 {
		return nil, fmt.Errorf("open suite %s: all %d training texts have the label %q; two are needed at least", c.Path, len(train), train[0])
	}
	var strange []string
	for _, l := range t.sheet.Labels[0][t.sheet.Train:] {
		if !known[l] {
			strange = append(strange, l)
		}
	}
	if len(strange) == len(t.columns[1].texts) {
		return nil, fmt.Errorf("open suite %s: row 1 has the label %q, which no training text has, and so it is with every row", t.columns[1].name, strange[0])
	}
	warnIDs(log, "texts have labels that no training text has: whatever is predicted of them is wrong", t.columns[1].name, strange)
	return t, nil
}

// clusteringTask reads {sentences, labels}: a text a row (with one label, or one for each level), as mteb's sets since
// version 2, or a list of texts a row, each row a set of its own, as before.
func clusteringTask(c SuiteConfig) (*task, error) {
	t := &task{sheet: Sheet{Kind: ClusteringTask}}
	var texts []string
	levels := -1
	err := eachRow(c.Path, func(row *Row) error {
		key, err := oneOf(row, "sentences", "sentence", "text")
		if err != nil {
			return err
		}
		sets := row.Kind(key) == "list"
		own, err := row.Texts(key)
		if err != nil {
			return err
		}
		label, err := oneOf(row, "labels", "label")
		if err != nil {
			return err
		}
		labels, err := row.IDs(label)
		if err != nil {
			return err
		}
		if sets != (t.sheet.Ends != nil) && len(texts) > 0 {
			return row.fault(key, "found a text where rows before have lists, or the reverse; one kind of row a file is allowed")
		}
		if sets {
			if len(labels) != len(own) {
				return row.fault(label, fmt.Sprintf("found %d labels for %d texts", len(labels), len(own)))
			}
			if t.sheet.Labels == nil {
				t.sheet.Labels = [][]string{nil}
			}
			t.sheet.Labels[0] = append(t.sheet.Labels[0], labels...)
			texts = append(texts, own...)
			t.sheet.Ends = append(t.sheet.Ends, len(texts))
			return nil
		}
		if levels < 0 {
			levels = len(labels)
			t.sheet.Labels = make([][]string, levels)
		}
		if len(labels) == 0 {
			return row.fault(label, "no label")
		}
		texts = append(texts, own...)
		for i := range levels { // a row with fewer levels than the first belongs to none at the lower ones
			l := ""
			if i < len(labels) {
				l = labels[i]
			}
			t.sheet.Labels[i] = append(t.sheet.Labels[i], l)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, l := range t.sheet.Labels {
		if same := slices.Compact(slices.Sorted(slices.Values(l))); len(same) < 2 {
			return nil, fmt.Errorf("open suite %s: level %d: all %d texts have the label %q; two are needed at least", c.Path, i, len(l), l[0])
		}
	}
	t.columns = []column{{name: c.Path, instruction: c.Instruction, texts: texts}}
	return t, nil
}
