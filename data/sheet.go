package data

import (
	"encoding/json"
	"fmt"
)

// Sheet is what a suite's embeddings are scored with: ids in slot order, and judgments.
type Sheet struct {
	Name      string   `json:"name"`
	Queries   []string `json:"queries"`   // [Q] ids of slots 0..Q-1
	Documents []string `json:"documents"` // [D] ids of slots Q..Q+D-1
	Qrels     Qrels    `json:"qrels"`
}

// Sheet returns the suite's ids and judgments.
func (s *Suite) Sheet() Sheet {
	return Sheet{Name: s.Name, Queries: s.Queries, Documents: s.Documents, Qrels: s.Qrels}
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
