package evaluate

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
)

// million is a run of 1,000 queries with 1,000 documents each, in order or not, and judgments of about 100 a query.
func million(shuffled bool) (string, data.Qrels) {
	r := rand.New(rand.NewPCG(7, 0))
	var text strings.Builder
	qrels := data.Qrels{}
	lines := make([]string, 1000)
	for q := range 1000 {
		query := fmt.Sprint(1000 + q)
		qrels[query] = map[string]int{}
		score := 60.0
		for d := range lines {
			id := fmt.Sprint("msmarco_passage_", r.IntN(8_800)*1000+d)
			score -= r.ExpFloat64() / 30
			lines[d] = fmt.Sprintf("%s Q0 %s %d %.4f bm25\n", query, id, d+1, score)
			if d%20 == 0 || d < 50 {
				qrels[query][id] = r.IntN(4)
			}
		}
		if shuffled {
			r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		}
		for _, line := range lines {
			text.WriteString(line)
		}
	}
	return text.String(), qrels
}

// BenchmarkScoreMillion reads and scores a million lines, on one core: go test -cpu 1 -bench ScoreMillion. The
// comparison with pytrec_eval is scripts/bench-score.py.
func BenchmarkScoreMillion(b *testing.B) {
	measures, err := ParseMeasures("map", "ndcg", "ndcg_cut.10", "recall.100", "P.5", "recip_rank", "Rprec", "bpref")
	if err != nil {
		b.Fatal(err)
	}
	for _, shuffled := range []bool{false, true} {
		text, qrels := million(shuffled)
		name := map[bool]string{false: "in order", true: "shuffled"}[shuffled]
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				run, tag, err := ParseRun("run", text)
				if err != nil {
					b.Fatal(err)
				}
				report := Evaluation{}.Score(run, qrels, measures)
				if err := report.Write(io.Discard, tag, false, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
