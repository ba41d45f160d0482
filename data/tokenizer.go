package data

// Tokenizer turns text into token ids. Implementations are safe for concurrent use.
type Tokenizer interface {
	// Encode appends the token ids of text to dst. It adds no special tokens, and is pure in text.
	Encode(dst []int32, text string) []int32
	// Digest identifies the vocabulary and the rules: equal digests encode every text alike.
	Digest() string
}
