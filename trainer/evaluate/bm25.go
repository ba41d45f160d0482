package evaluate

import (
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/counterpoint-ml/counterpoint/data"
)

// BM25 is the lexical baseline beside a model's row (Robertson and Zaragoza, "The Probabilistic Relevance
// Framework", 2009; parameters as in Anserini's defaults):
//
//	score(q, d) = sum over terms t of q:  idf(t) * tf / (tf + K1 * (1 - B + B * |d| / avg))
//	idf(t)      = log(1 + (N - n + 0.5) / (n + 0.5))
//
// Terms are lower-cased runs of letters and digits with plural endings taken off (Harman's S stemmer).
type BM25 struct {
	K1, B float64

	ids      []string
	lengths  []float64
	average  float64
	postings map[string][]posting
}

type posting struct {
	document int32
	count    float64
}

// NewBM25 returns an empty index with K1 = 0.9 and B = 0.4.
func NewBM25() *BM25 {
	return &BM25{K1: 0.9, B: 0.4, postings: map[string][]posting{}}
}

// Add indexes a document.
func (x *BM25) Add(id, text string) {
	terms := Terms(text)
	counts := map[string]float64{}
	for _, t := range terms {
		counts[t]++
	}
	document := int32(len(x.ids))
	for t, n := range counts {
		x.postings[t] = append(x.postings[t], posting{document, n})
	}
	x.ids = append(x.ids, id)
	x.lengths = append(x.lengths, float64(len(terms)))
	x.average += (float64(len(terms)) - x.average) / float64(len(x.ids))
}

// Search returns the k best documents that share a term with the query.
func (x *BM25) Search(query string, k int) []Hit {
	scores := map[int32]float64{}
	for _, t := range Terms(query) {
		list := x.postings[t]
		n := float64(len(list))
		idf := math.Log(1 + (float64(len(x.ids))-n+0.5)/(n+0.5))
		for _, p := range list {
			norm := x.K1 * (1 - x.B + float64(x.B*x.lengths[p.document])/x.average)
			scores[p.document] += float64(idf * (p.count / (p.count + norm)))
		}
	}
	hits := make([]Hit, 0, len(scores))
	for d, s := range scores {
		hits = append(hits, Hit{Document: x.ids[d], Score: s})
	}
	slices.SortFunc(hits, Single.compare)
	return hits[:min(k, len(hits))]
}

// Terms splits a text into the terms of BM25.
func Terms(text string) []string {
	terms := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for i, t := range terms {
		terms[i] = singular(t)
	}
	return terms
}

// singular takes off plural endings: -ies becomes -y but for -eies and -aies, -es loses the s but for -aes, -ees
// and -oes, -s is dropped but for -us and -ss (Harman, "How effective is suffixing?", 1991).
func singular(word string) string {
	n := len(word)
	switch {
	case n > 3 && strings.HasSuffix(word, "ies"):
		if c := word[n-4]; c != 'e' && c != 'a' {
			return word[:n-3] + "y"
		}
	case n > 3 && strings.HasSuffix(word, "es"):
		if c := word[n-3]; c != 'a' && c != 'e' && c != 'o' {
			return word[:n-1]
		}
	case n > 3 && strings.HasSuffix(word, "s"):
		if c := word[n-2]; c != 'u' && c != 's' {
			return word[:n-1]
		}
	}
	return word
}

// Lexical scores a retrieval suite by BM25: the reference row beside a model's. Pools and exclusions hold for it too.
func Lexical(suite *data.Suite) (map[string]float64, error) {
	sheet := suite.Sheet()
	run, err := LexicalRun(suite)
	if err != nil {
		return nil, err
	}
	return ScoreSheet(&sheet, run)
}

// LexicalRun is what BM25 retrieves: of each query its 1,000 best documents that share a term with it.
func LexicalRun(suite *data.Suite) (Run, error) {
	sheet := suite.Sheet()
	x := NewBM25()
	for i, id := range sheet.Documents {
		text, err := suite.Text(len(sheet.Queries) + i)
		if err != nil {
			return nil, err
		}
		x.Add(id, text)
	}
	run := make(Run, len(sheet.Queries))
	for i, id := range sheet.Queries {
		text, err := suite.Text(i)
		if err != nil {
			return nil, err
		}
		if sheet.Pools == nil && len(sheet.Excluded[id]) == 0 {
			run[id] = x.Search(text, depth)
			continue
		}
		hits := x.Search(text, len(sheet.Documents))
		if sheet.Pools != nil {
			pool := make(map[string]bool, len(sheet.Pools[id]))
			for _, d := range sheet.Pools[id] {
				pool[d] = true
			}
			hits = slices.DeleteFunc(hits, func(h Hit) bool { return !pool[h.Document] })
		}
		if sheet.Exclusion != data.KeepExcluded {
			hits = Exclude(Run{id: hits}, sheet.Excluded)[id]
		}
		run[id] = hits[:min(depth, len(hits))]
	}
	return run, nil
}
