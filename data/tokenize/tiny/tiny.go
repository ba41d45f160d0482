// Package tiny holds the tokenizer of the presets tiny-diffusion and tiny-causal: 4,096 tokens of byte-level BPE,
// trained on the texts of configs/quickstart by scripts/gentokenizer. Ids 0 to 3 are <|pad|>, <|mask|>, <|bos|>
// and <|eos|>.
package tiny

import (
	_ "embed"

	"github.com/counterpoint-ml/counterpoint/data/tokenize"
)

//go:generate go run ../../../scripts/gentokenizer -in ../../../configs/quickstart/train.jsonl.gz -out .

//go:embed tokenizer.json
var tokenizerFile []byte

//go:embed tokenizer_config.json
var configFile []byte

// Files returns the tokenizer's files, to be copied into a checkpoint.
func Files() tokenize.Files {
	return tokenize.Files{Tokenizer: append([]byte(nil), tokenizerFile...), Config: append([]byte(nil), configFile...)}
}

// Open makes the tokenizer.
func Open() (*tokenize.Tokenizer, error) { return Files().Open("tiny") }
