package data

import (
	"errors"
	"fmt"
)

// eachRow reads the rows of a file; its first fault ends it.
func eachRow(path string, each func(row *Row) error) error {
	rows, err := OpenRows(path)
	if err != nil {
		return err
	}
	n := 0
	for row, err := range rows.All() {
		if err == nil {
			err = each(&row)
		}
		if err != nil {
			return errors.Join(err, rows.Close())
		}
		n++
	}
	if n == 0 {
		return errors.Join(errNoRows(path, 0), rows.Close())
	}
	return rows.Close()
}

// oneOf returns the first of the keys that the row has.
func oneOf(row *Row, keys ...string) (string, error) {
	for _, k := range keys {
		if row.Has(k) {
			return k, nil
		}
	}
	return "", row.fault(keys[0], fmt.Sprintf("missing; one of %s is needed (found %s)", list(keys), list(row.Keys())))
}

// pairTask reads two columns of texts, and a third of numbers if number is not empty. Rows of mteb's older pair
// classification sets are lists, a whole set in one row.
func pairTask(c SuiteConfig, number ...string) (*task, error) {
	var x, y []string
	var gold []float64
	err := eachRow(c.Path, func(row *Row) error {
		first, err := oneOf(row, "sentence1", "sent1", "text1")
		if err != nil {
			return err
		}
		second, err := oneOf(row, "sentence2", "sent2", "text2")
		if err != nil {
			return err
		}
		a, err := row.Texts(first)
		if err != nil {
			return err
		}
		b, err := row.Texts(second)
		if err != nil {
			return err
		}
		if len(a) != len(b) {
			return row.fault(second, fmt.Sprintf("found %d texts for %d under %s", len(b), len(a), first))
		}
		x, y = append(x, a...), append(y, b...)
		if len(number) == 0 {
			return nil
		}
		key, err := oneOf(row, number...)
		if err != nil {
			return err
		}
		values, err := floats(row, key)
		if err == nil && len(values) != len(a) {
			err = row.fault(key, fmt.Sprintf("found %d numbers for %d pairs", len(values), len(a)))
		}
		gold = append(gold, values...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &task{
		sheet:   Sheet{Gold: gold},
		columns: []column{{name: c.Path, instruction: c.Instruction, texts: x}, {name: c.Path, instruction: c.Instruction, texts: y}},
	}, nil
}

// floats returns one number or a list of them.
func floats(row *Row, key string) ([]float64, error) {
	if row.Kind(key) != "list" {
		if row.Kind(key) == "boolean" {
			n, err := row.Int(key)
			return []float64{float64(n)}, err
		}
		v, err := row.Float(key)
		return []float64{v}, err
	}
	ids, err := row.IDs(key)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(ids))
	for i, id := range ids {
		if _, err := fmt.Sscan(id, &out[i]); err != nil {
			return nil, row.fault(key, fmt.Sprintf("found %q; a list of numbers is allowed", id))
		}
	}
	return out, nil
}

func stsTask(c SuiteConfig) (*task, error) {
	t, err := pairTask(c, "score", "label", "similarity")
	if err == nil {
		t.sheet.Kind = STSTask
	}
	return t, err
}

func bitextTask(c SuiteConfig) (*task, error) {
	t, err := pairTask(c)
	if err == nil {
		t.sheet.Kind = BitextTask
	}
	return t, err
}

func pairsTask(c SuiteConfig) (*task, error) {
	t, err := pairTask(c, "labels", "label", "is_duplicate")
	if err != nil {
		return nil, err
	}
	t.sheet.Kind = PairsTask
	seen := [2]int{}
	for i, v := range t.sheet.Gold {
		if v != 0 && v != 1 {
			return nil, fmt.Errorf("open suite %s: pair %d has the label %g; 0 and 1 are allowed", c.Path, i+1, v)
		}
		seen[int(v)]++
	}
	if seen[0] == 0 || seen[1] == 0 {
		return nil, fmt.Errorf("open suite %s: %d pairs are alike and %d are not; both kinds are needed", c.Path, seen[1], seen[0])
	}
	return t, nil
}

// summaryTask reads mteb's summarisation sets: summaries of a text by people and by machines, and how relevant each of the
// latter is.
func summaryTask(c SuiteConfig) (*task, error) {
	t := &task{sheet: Sheet{Kind: SummaryTask}}
	var texts []string
	err := eachRow(c.Path, func(row *Row) error {
		human, err := row.Texts("human_summaries")
		if err != nil {
			return err
		}
		machine, err := row.Texts("machine_summaries")
		if err != nil {
			return err
		}
		gold, err := floats(row, "relevance")
		if err != nil {
			return err
		}
		if len(human) == 0 || len(machine) == 0 || len(gold) != len(machine) {
			return row.fault("machine_summaries", fmt.Sprintf("found %d of people, %d of machines and %d scores; at least one of each, and a score for each of a machine, are needed",
				len(human), len(machine), len(gold)))
		}
		s := Summary{Gold: gold}
		for i := range human {
			s.Human = append(s.Human, int32(len(texts)+i))
		}
		texts = append(texts, human...)
		for i := range machine {
			s.Machine = append(s.Machine, int32(len(texts)+i))
		}
		texts = append(texts, machine...)
		t.sheet.Summaries = append(t.sheet.Summaries, s)
		return nil
	})
	t.columns = []column{{name: c.Path, instruction: c.Instruction, texts: texts}}
	return t, err
}
