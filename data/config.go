package data

// NoInstruction as an instruction puts nothing before the texts, whatever their task.
const NoInstruction = "-"

// Source is one entry under data: in a run.
type Source struct {
	Path        string  `yaml:"path" json:"path"`                                                     // file of JSON lines, plain or gzip, or of Parquet; folder of them; folder in BEIR layout or one of its qrels
	Name        string  `yaml:"name,omitempty" json:"name,omitempty"`                                 // default: the file's name without endings
	Instruction string  `yaml:"instruction,omitempty" json:"instruction,omitempty"`                   // put before queries; "" uses the row's task, "-" none
	Document    string  `yaml:"document_instruction,omitempty" json:"document_instruction,omitempty"` // put before documents
	Limit       int     `yaml:"limit,omitempty" json:"limit,omitempty"`                               // first N rows; 0 = all
	Weight      float64 `yaml:"weight,omitempty" json:"weight,omitempty"`                             // chance of being a step's source, relative; 0 = number of rows
	Format      string  `yaml:"format,omitempty" json:"format,omitempty"`                             // one of Formats; "" = told from the files
	OnError     string  `yaml:"on_error,omitempty" json:"on_error,omitempty"`                         // refuse (default) | skip
}

// Order says how the rows of the sources become global batches.
type Order struct {
	Batch         int    `json:"batch"`          // pairs in a global batch
	HardNegatives int    `json:"hard_negatives"` // negatives per query, at most; fewer where a row has fewer
	Group         int    `json:"group"`          // rows drawn from one source together; 0 = the whole batch (single-source)
	Remainder     string `json:"remainder"`      // wrap (default) | drop
	MaxLength     int    `json:"max_length"`     // tokens a text, prompt included
	ShardTokens   int    `json:"shard_tokens"`   // 0: average tokens of a batch / 64, between 2,048 (4,096 if Whole) and 32,768, rounded to a bucket
	Whole         bool   `json:"-"`              // all parameters train; shows in ShardTokens alone
	Seed          uint64 `json:"seed"`

	// Texts makes a batch of a language objective out of the rows: all | documents | queries. Every text of a
	// row is taken then, all its positives and negatives. "" = query, positive and hard negatives, for InfoNCE.
	Texts string `json:"texts,omitempty"`
	// Predicted makes Header.Divisor the number of tokens that a causal model predicts (all but the first of
	// each text) and not the number of tokens. Only with Texts.
	Predicted bool `json:"predicted,omitempty"`
	// Terms, if not nil, makes Header.Divisor the sum of its results over the texts, in place of the number of tokens: for
	// an objective that draws what it predicts. It is a pure function of the step, a text's slot and its length.
	Terms func(step int64, slot int32, tokens int) int `json:"-"`
}
