package data

import (
	"encoding/json"
	"fmt"
)

// Sheet is what a suite's embeddings are scored with, by its kind: ids, judgments and labels in slot order. A worker
// that scores has it and the embeddings, and nothing else.
type Sheet struct {
	Name  string `json:"name"`
	Group string `json:"group,omitempty"` // suites whose mean is reported beside them, such as passkey's lengths
	Kind  string `json:"kind,omitempty"`  // "" = retrieval; else STSTask, PairsTask, ClassificationTask, ClusteringTask, BitextTask, SummaryTask
	Main  string `json:"main,omitempty"`  // the metric that stands for the suite; "" = the kind's own

	// Retrieval. Queries are slots 0..Q-1 and documents slots Q..Q+D-1.
	Queries   []string            `json:"queries,omitempty"`   // [Q] ids
	Documents []string            `json:"documents,omitempty"` // [D] ids
	Qrels     Qrels               `json:"qrels,omitempty"`
	Excluded  map[string][]string `json:"excluded,omitempty"`  // documents that a query may not find
	Exclusion string              `json:"exclusion,omitempty"` // how: RemoveExcluded (""), ZeroExcluded or KeepExcluded
	Pools     map[string][]string `json:"pools,omitempty"`     // only these documents are ranked for a query
	Changed   map[string][]string `json:"changed,omitempty"`   // FollowIR: documents whose relevance the changed instruction changes, by query without -og and -changed

	// Pairs of texts: slot i and slot N+i, for STS, pair classification and bitext mining.
	Gold []float64 `json:"gold,omitempty"` // [N] score; 0 or 1 for pair classification

	// Labels of texts, for classification and clustering.
	Labels [][]string `json:"labels,omitempty"` // [levels][slots]
	Train  int        `json:"train,omitempty"`  // classification: the first slots are what is learnt from
	Ends   []int      `json:"ends,omitempty"`   // clustering: sets of slots that are clustered apart, by their ends; nil = one set

	Summaries []Summary `json:"summaries,omitempty"`
}

// How documents of Sheet.Excluded are left out.
const (
	RemoveExcluded = ""     // before the ranking is cut, as BRIGHT's own code and mteb's BRIGHT (v1.1) do
	ZeroExcluded   = "zero" // score 0 after the 1,000 best were taken, as DiffEmbed's copy of mteb does
	KeepExcluded   = "keep" // they count like any other, as mteb's first BRIGHT does
)

// Rule says in words what is done with documents that queries exclude, "" where none are; published numbers differ in it.
func (s *Sheet) Rule() string {
	if len(s.Excluded) == 0 {
		return ""
	}
	own := true
	for query, documents := range s.Excluded {
		own = own && len(documents) == 1 && documents[0] == query
	}
	if own {
		return "the document with a query's own id is not found, as mteb scores this task"
	}
	switch s.Exclusion {
	case ZeroExcluded:
		return "excluded documents scored 0 after the cut, as DiffEmbed"
	case KeepExcluded:
		return "excluded documents kept, as mteb's first BRIGHT"
	}
	return "excluded documents removed before the cut, as BRIGHT and mteb's BRIGHT (v1.1)"
}

// Summary is a document's summaries: slots of those by people and by machines, and a score of each of the latter.
type Summary struct {
	Human   []int32   `json:"human"`
	Machine []int32   `json:"machine"`
	Gold    []float64 `json:"gold"`
}

// Sheet returns the suite's ids, judgments and labels.
func (s *Suite) Sheet() Sheet {
	if s.sheet != nil {
		return *s.sheet
	}
	return Sheet{Name: s.Name, Queries: s.Queries, Documents: s.Documents, Qrels: s.Qrels, Excluded: s.excluded}
}

// Suites are the evaluation sets of a run, by index.
type Suites []*Suite

// Names returns the suites' names.
func (s Suites) Names() []string {
	names := make([]string, len(s))
	for i, suite := range s {
		names[i] = suite.Name
	}
	return names
}

func (s Suites) suite(i int) (*Suite, error) {
	if i < 0 || i >= len(s) {
		return nil, fmt.Errorf("suite %d of %d", i, len(s))
	}
	return s[i], nil
}

// Where names a text of a suite for people: the suite, and its file and line.
func (s Suites) Where(i int, source int32, row int64) string {
	suite, err := s.suite(i)
	if err != nil {
		return err.Error()
	}
	if source < 0 || int(source) >= len(suite.pack.sources) || row < 0 || row >= int64(suite.pack.sources[source].rows()) {
		return fmt.Sprintf("suite %s source %d row %d", suite.Name, source, row)
	}
	return suite.Name + " " + suite.pack.sources[source].where(uint32(row))
}

// Header returns the header of a suite's texts.
func (s Suites) Header(i int) (Header, error) {
	suite, err := s.suite(i)
	if err != nil {
		return Header{}, err
	}
	return suite.header, nil
}

// Shards reads and tokenises shards of a suite.
func (s Suites) Shards(i int, indices []int) ([]Shard, error) {
	suite, err := s.suite(i)
	if err != nil {
		return nil, err
	}
	return suite.pack.shards(indices)
}

// Describe returns a suite's Sheet as JSON.
func (s Suites) Describe(i int) ([]byte, error) {
	suite, err := s.suite(i)
	if err != nil {
		return nil, err
	}
	return json.Marshal(suite.Sheet())
}
