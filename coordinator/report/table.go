package report

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// order is how metrics stand in a table; others follow by name.
var order = []string{
	"p-mrr", "score", "ndcg@10", "r@1", "mrr@10", "recall@10", "recall@100", "map",
	"accuracy", "f1", "v_measure", "ami", "max_ap", "cosine_ap", "cosine_f1", "cosine_spearman", "cosine_pearson",
}

// Columns returns the metrics that any row has: the usual ones first.
func Columns(rows []Row) []string {
	have := map[string]bool{}
	for _, r := range rows {
		for name := range r.Metrics {
			have[name] = true
		}
	}
	var columns []string
	for _, name := range order {
		if have[name] {
			columns = append(columns, name)
		}
	}
	if len(columns) > 0 {
		return columns
	}
	for name := range have {
		columns = append(columns, name)
	}
	sort.Strings(columns)
	return columns
}

// Table writes rows as an aligned text table with the given metrics as columns; nil = Columns(rows).
func Table(rows []Row, columns []string) string {
	if columns == nil {
		columns = Columns(rows)
	}
	suites := map[string]bool{}
	for _, r := range rows {
		suites[r.Suite] = true
	}
	cells := [][]string{{""}}
	if len(suites) > 1 {
		cells[0] = append(cells[0], "suite")
	}
	cells[0] = append(cells[0], columns...)
	for _, r := range rows {
		line := []string{r.Label}
		if len(suites) > 1 {
			line = append(line, r.Suite)
		}
		for _, c := range columns {
			if v, ok := r.Metrics[c]; ok {
				line = append(line, fmt.Sprintf("%.4f", v))
			} else {
				line = append(line, "-")
			}
		}
		cells = append(cells, line)
	}
	width := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	for n, line := range cells {
		for i, c := range line {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			if i == 0 || len(suites) > 1 && i == 1 {
				b.WriteString(c + pad)
			} else {
				b.WriteString("  " + pad + c)
			}
			if i == 0 && len(suites) > 1 {
				b.WriteString("  ")
			}
		}
		b.WriteString("\n")
		if n == 0 {
			b.WriteString(strings.Repeat("─", slices.Max([]int{total(width) + 2*(len(width)-1), 1})) + "\n")
		}
	}
	return b.String()
}

func total(ns []int) int {
	t := 0
	for _, n := range ns {
		t += n
	}
	return t
}
