package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// Poolings as package trainer/backbone spells them.
const (
	Mean         = "mean"
	WeightedMean = "weighted_mean"
	LastToken    = "last_token"
	FirstToken   = "first_token"
)

// Sentence is what a sentence-transformers folder says besides the model: Transformer, Pooling and perhaps Normalize.
type Sentence struct {
	Model      string // folder of the transformer and its tokenizer
	Pooling    string
	Dimension  int  // of the embedding, 0 = not said
	PoolPrompt bool // the prompt's tokens are pooled too
	Normalize  bool // the embedding is divided by its norm
	MaxLength  int  // tokens a text, prompt and special tokens included; 0 = no limit is written
	LowerCase  bool // texts are lower-cased first

	Prompts       map[string]string // by name; put before the text as they are
	DefaultPrompt string            // name of the one used if none is asked for; "" = none
}

// ReadSentence reads a folder in the layout of sentence-transformers 2 to 5 or in that of 6.
func ReadSentence(dir string) (*Sentence, error) {
	s := &Sentence{Model: dir, PoolPrompt: true}
	var modules []struct{ Path, Type string }
	if err := readJSON(filepath.Join(dir, ModulesName), &modules, true); err != nil {
		return nil, err
	}
	for i, m := range modules {
		path := filepath.Join(dir, m.Path)
		if !filepath.IsLocal(m.Path) && m.Path != "" {
			return nil, fmt.Errorf("%s: module %d has the path %q, which leaves the folder", filepath.Join(dir, ModulesName), i, m.Path)
		}
		kind := m.Type[strings.LastIndex(m.Type, ".")+1:]
		var err error
		switch {
		case i == 0 && kind == "Transformer":
			s.Model = path
		case i == 1 && kind == "Pooling":
			err = s.readPooling(filepath.Join(path, checkpoints.ModelConfigName))
		case i == 2 && kind == "Normalize":
			s.Normalize = true
		default:
			err = fmt.Errorf("%s: module %d is %q: only Transformer, Pooling and Normalize, in this order, are supported", filepath.Join(dir, ModulesName), i, m.Type)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(modules) < 2 {
		return nil, fmt.Errorf("%s lists %d modules, want Transformer, Pooling and perhaps Normalize", filepath.Join(dir, ModulesName), len(modules))
	}
	var c struct {
		Prompts map[string]string `json:"prompts"`
		Default string            `json:"default_prompt_name"`
	}
	path := filepath.Join(dir, SentenceName)
	if err := readJSON(path, &c, false); err != nil {
		return nil, err
	}
	if s.Prompts, s.DefaultPrompt = c.Prompts, c.Default; c.Default != "" && !has(c.Prompts, c.Default) {
		return nil, fmt.Errorf("%s: default_prompt_name: %q is none of the prompts", path, c.Default)
	}
	return s, s.readLength()
}

// readPooling reads both spellings: booleans, and pooling_mode of version 6.
func (s *Sentence) readPooling(path string) error {
	var c map[string]any
	if err := readJSON(path, &c, true); err != nil {
		return err
	}
	var modes []string
	switch mode := c["pooling_mode"].(type) {
	case string:
		modes = append(modes, mode)
	case []any:
		for _, m := range mode {
			modes = append(modes, fmt.Sprint(m))
		}
	}
	for key, value := range c {
		if name, ok := strings.CutPrefix(key, "pooling_mode_"); ok && value == true {
			modes = append(modes, strings.TrimSuffix(name, "_tokens"))
		}
	}
	sort.Strings(modes)
	if len(modes) != 1 {
		return fmt.Errorf("%s: %d pooling modes %v, want one", path, len(modes), modes)
	}
	known := map[string]string{"mean": Mean, "weightedmean": WeightedMean, "lasttoken": LastToken, "cls": FirstToken, "cls_token": FirstToken}
	if s.Pooling = known[modes[0]]; s.Pooling == "" {
		return fmt.Errorf("%s: pooling mode %q is not supported; supported: mean, weightedmean, lasttoken, cls", path, modes[0])
	}
	for _, key := range []string{"embedding_dimension", "word_embedding_dimension"} {
		if d, ok := c[key].(float64); ok {
			s.Dimension = int(d)
		}
	}
	if include, ok := c["include_prompt"].(bool); ok {
		s.PoolPrompt = include
	}
	return nil
}

// readLength finds the limit of tokens: max_seq_length of older versions, else the tokenizer's own, as version 6
// writes it, bounded by the model's positions.
func (s *Sentence) readLength() error {
	var old struct {
		Length *int `json:"max_seq_length"`
		Lower  bool `json:"do_lower_case"`
	}
	if err := readJSON(filepath.Join(s.Model, LengthName), &old, false); err != nil {
		return err
	}
	s.LowerCase = old.Lower
	if old.Length != nil {
		s.MaxLength = *old.Length
		return nil
	}
	var err error
	s.MaxLength, err = TokenLimit(s.Model)
	return err
}

// TokenLimit returns the length that a model folder's tokenizer_config.json and config.json allow, 0 if they name none.
func TokenLimit(dir string) (int, error) {
	var tokenizer struct {
		Length float64 `json:"model_max_length"` // 1e30 where there is no limit
	}
	var model struct {
		Positions int `json:"max_position_embeddings"`
	}
	if err := readJSON(filepath.Join(dir, "tokenizer_config.json"), &tokenizer, false); err != nil {
		return 0, err
	}
	if err := readJSON(filepath.Join(dir, checkpoints.ModelConfigName), &model, false); err != nil {
		return 0, err
	}
	limit := model.Positions
	if n := tokenizer.Length; n >= 1 && n < 1<<30 && (limit == 0 || int(n) < limit) {
		limit = int(n)
	}
	return limit, nil
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}

// readJSON reads a file into a value, which stays as it is where an optional file is missing.
func readJSON(path string, into any, needed bool) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !needed {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
