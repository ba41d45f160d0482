package evaluate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data"
)

// PerQuery returns a suite's main metric by query, for comparisons. Only retrieval has queries.
func PerQuery(sheet *data.Sheet, run Run) (map[string]float64, error) {
	if sheet.Kind != "" {
		return nil, fmt.Errorf("suite %s: a %s task has no queries to compare one by one", sheet.Name, sheet.Kind)
	}
	main := Main(sheet)
	if main == "p-mrr" {
		_, out := PMRR(run, run, sheet.Changed)
		return out, nil
	}
	if main == "score" && sheet.Changed != nil {
		main = followScore(sheet)
	}
	i := slices.IndexFunc(measures, func(m [2]string) bool { return m[0] == main })
	if i < 0 {
		return nil, fmt.Errorf("suite %s: there is no metric %q; %s are known", sheet.Name, main, strings.Join(Metrics(), ", "))
	}
	parsed, err := ParseMeasures(measures[i][1])
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	qrels := scored(sheet)
	for query := range maps.Keys(qrels) {
		out[query] = 0
	}
	report := Evaluation{}.Score(run, qrels, parsed)
	for j, query := range report.Queries {
		out[query] = report.Values[j][0]
	}
	return out, nil
}
