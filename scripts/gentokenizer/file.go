package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// encode writes tokenizer.json as Hugging Face tokenizers would read it, one token and one merge a line.
func (v *vocabulary) encode() ([]byte, error) {
	var added, vocab, merges []string
	for id, token := range specials {
		added = append(added, fmt.Sprintf(`{"id": %d, "content": %s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}`, id, quote(token)))
	}
	for id, token := range v.tokens {
		vocab = append(vocab, fmt.Sprintf("%s: %d", quote(token), id))
	}
	for _, m := range v.merges {
		merges = append(merges, quote(m[0]+" "+m[1]))
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `{
"version": "1.0",
"truncation": null,
"padding": null,
"added_tokens": [
%s
],
"normalizer": null,
"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
"post_processor": null,
"decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
"model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
"vocab": {
%s
},
"merges": [
%s
]}
}
`, strings.Join(added, ",\n"), strings.Join(vocab, ",\n"), strings.Join(merges, ",\n"))
	if !json.Valid(out.Bytes()) {
		return nil, fmt.Errorf("the written tokenizer.json is not valid JSON")
	}
	return out.Bytes(), nil
}

func encodeConfig() []byte {
	return fmt.Appendf(nil, `{
  "add_prefix_space": false,
  "bos_token": %s,
  "clean_up_tokenization_spaces": false,
  "eos_token": %s,
  "mask_token": %s,
  "pad_token": %s,
  "tokenizer_class": "PreTrainedTokenizerFast"
}
`, quote("<|bos|>"), quote("<|eos|>"), quote("<|mask|>"), quote("<|pad|>"))
}

// quote is a JSON string without Go's escapes for HTML.
func quote(s string) string {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // strings always encode
	}
	return strings.TrimSuffix(out.String(), "\n")
}
