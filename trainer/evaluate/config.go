// Package evaluate scores retrieval and similarity. Its metrics are pure and in float64.
package evaluate

// Config is evaluate: in the YAML. None of it belongs to a run's identity.
type Config struct {
	Every  int64   `yaml:"every,omitempty" json:"every,omitempty"`       // steps; 0 = only at the end
	Before bool    `yaml:"at_start,omitempty" json:"at_start,omitempty"` // also before step 0
	Suites []Suite `yaml:"suites,omitempty" json:"suites,omitempty"`
}

// Suite is one evaluation set in BEIR layout.
type Suite struct {
	Path        string `yaml:"path" json:"path"`
	Name        string `yaml:"name,omitempty" json:"name,omitempty"`
	Split       string `yaml:"split,omitempty" json:"split,omitempty"` // qrels/SPLIT.tsv; "" = the only one
	Instruction string `yaml:"instruction,omitempty" json:"instruction,omitempty"`
	Document    string `yaml:"document_instruction,omitempty" json:"document_instruction,omitempty"`
	MaxLength   int    `yaml:"max_length,omitempty" json:"max_length,omitempty"`
}
