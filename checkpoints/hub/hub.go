// Package hub reads and writes the model folders of other libraries: PEFT adapters, sentence-transformers folders, and
// plain Hugging Face folders. It knows files and names; what a model computes is package trainer/backbone's.
package hub

// Names of the files that sentence-transformers keeps beside a model.
const (
	ModulesName  = "modules.json"
	SentenceName = "config_sentence_transformers.json"
	LengthName   = "sentence_bert_config.json"
	CardName     = "README.md"
)
