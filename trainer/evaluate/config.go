// Package evaluate scores retrieval and similarity. Its metrics are pure and in float64.
package evaluate

import "github.com/counterpoint-ml/counterpoint/data"

// Config is evaluate: in the YAML. None of it belongs to a run's identity.
type Config struct {
	Every  int64   `yaml:"every,omitempty" json:"every,omitempty"`       // steps; 0 = only at the end
	Before bool    `yaml:"at_start,omitempty" json:"at_start,omitempty"` // also before step 0
	Suites []Suite `yaml:"suites,omitempty" json:"suites,omitempty"`
}

// Suite is one evaluation set, or one for each length or part where data.OpenSuites says so.
type Suite struct {
	Path        string `yaml:"path" json:"path"`        // in the YAML KIND:PATH, PATH alone for BEIR layout
	Task        string `yaml:"-" json:"task,omitempty"` // one of data.Tasks: what KIND says
	MTEB        string `yaml:"-" json:"mteb,omitempty"` // mteb's name of the task; "" = none
	Name        string `yaml:"name,omitempty" json:"name,omitempty"`
	Split       string `yaml:"split,omitempty" json:"split,omitempty"` // qrels/SPLIT.tsv, or a file's or a folder's part; "" = the only one
	Instruction string `yaml:"instruction,omitempty" json:"instruction,omitempty"`
	Document    string `yaml:"document_instruction,omitempty" json:"document_instruction,omitempty"`
	MaxLength   int    `yaml:"max_length,omitempty" json:"max_length,omitempty"`
	MaxQuery    int    `yaml:"max_query_length,omitempty" json:"max_query_length,omitempty"` // 0 = MaxLength
	Main        string `yaml:"metric,omitempty" json:"metric,omitempty"`                     // "" = the task's own
	Lengths     []int  `yaml:"lengths,omitempty" json:"lengths,omitempty"`                   // of generated documents
	Seed        uint64 `yaml:"seed,omitempty" json:"seed,omitempty"`                         // of generated documents
	Filler      string `yaml:"filler,omitempty" json:"filler,omitempty"`                     // text file of generated documents
	Long        bool   `yaml:"long,omitempty" json:"long,omitempty"`                         // BRIGHT's long documents
	Excluded    string `yaml:"excluded,omitempty" json:"excluded,omitempty"`                 // remove ("") | zero | keep
	Identical   bool   `yaml:"ignore_identical,omitempty" json:"ignore_identical,omitempty"` // a query does not find the document with its id
}

// Open says how data opens the suite. A length of 0 becomes maxLength; queries and documents without an instruction of
// their own get those given.
func (s Suite) Open(maxLength int, instruction, document string) data.SuiteConfig {
	c := data.SuiteConfig{
		Task: s.Task, Path: s.Path, Name: s.Name, Split: s.Split, Instruction: s.Instruction, Document: s.Document, MaxLength: s.MaxLength, MaxQuery: s.MaxQuery,
		Main: s.Main, Lengths: s.Lengths, Seed: s.Seed, Filler: s.Filler, Long: s.Long, Exclusion: s.Excluded, Identical: s.Identical,
	}
	if c.MaxLength == 0 {
		c.MaxLength = maxLength
	}
	if c.Instruction == "" {
		c.Instruction = instruction
	}
	if c.Document == "" {
		c.Document = document
	}
	if c.Exclusion == "remove" {
		c.Exclusion = data.RemoveExcluded
	}
	if c.Name == "" {
		c.Name = s.MTEB
	}
	return c
}
