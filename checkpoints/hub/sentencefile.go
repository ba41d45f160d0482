package hub

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Files returns the files that make a model's folder one of sentence-transformers, in the layout that versions 2 to 6
// read.
func (s *Sentence) Files(version string) (map[string][]byte, error) {
	if !s.PoolPrompt && (s.Pooling == WeightedMean || s.Pooling == FirstToken) {
		return nil, fmt.Errorf("pooling %s without the instruction cannot be written for sentence-transformers: it counts places from the instruction's first token, the run from the text's", s.Pooling)
	}
	if !s.Normalize || s.LowerCase {
		return nil, errors.New("only normalised embeddings of texts as they are written can be exported")
	}
	mode := map[string]string{Mean: "mean_tokens", WeightedMean: "weightedmean_tokens", LastToken: "lasttoken", FirstToken: "cls_token"}[s.Pooling]
	if mode == "" {
		return nil, fmt.Errorf("pooling %q is unknown", s.Pooling)
	}
	pooling := map[string]any{"word_embedding_dimension": s.Dimension, "include_prompt": s.PoolPrompt}
	for _, name := range []string{"cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"} {
		pooling["pooling_mode_"+name] = name == mode
	}
	prompts := map[string]string{"query": "", "document": ""}
	for name, text := range s.Prompts {
		prompts[name] = text
	}
	type module struct {
		Index int    `json:"idx"`
		Name  string `json:"name"`
		Path  string `json:"path"`
		Type  string `json:"type"`
	}
	out := map[string][]byte{}
	for name, value := range map[string]any{
		ModulesName: []module{
			{0, "0", "", "sentence_transformers.models.Transformer"},
			{1, "1", "1_Pooling", "sentence_transformers.models.Pooling"},
			{2, "2", "2_Normalize", "sentence_transformers.models.Normalize"},
		},
		"1_Pooling/config.json":   pooling,
		"2_Normalize/config.json": map[string]any{}, // so that the folder is not lost where empty ones are
		LengthName:                map[string]any{"max_seq_length": s.MaxLength, "do_lower_case": false},
		SentenceName: map[string]any{
			"model_type": "SentenceTransformer", "__version__": map[string]string{"counterpoint": version},
			"prompts": prompts, "default_prompt_name": nil, "similarity_fn_name": "cosine",
		},
	} {
		text, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return nil, err
		}
		out[name] = append(text, '\n')
	}
	return out, nil
}
