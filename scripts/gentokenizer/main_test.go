package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/tokenize"
	"github.com/counterpoint-ml/counterpoint/data/tokenize/tiny"
)

func TestCommittedFilesAreCurrent(t *testing.T) {
	want := tiny.Files()
	size := 0
	if tok, err := tiny.Open(); err != nil {
		t.Fatal(err)
	} else {
		size = tok.Size()
	}
	tokenizer, config, err := generate(filepath.Join("..", "..", "configs", "quickstart", "train.jsonl.gz"), size)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(tokenizer, want.Tokenizer) || !bytes.Equal(config, want.Config) {
		t.Error("data/tokenize/tiny is not what the generator makes of configs/quickstart: run make generate and commit")
	}
}

// Merges learnt by hand: "aab" 3 times, "ab" twice: ab occurs 5 times, then a+ab 3 times.
func TestTrain(t *testing.T) {
	v, err := train(map[string]int{"aab": 3, "ab": 2}, 256+len(specials)+2)
	if err != nil {
		t.Fatal(err)
	}
	want := [][2]string{{"a", "b"}, {"a", "ab"}}
	if len(v.merges) != 2 || v.merges[0] != want[0] || v.merges[1] != want[1] {
		t.Errorf("merges = %q, want %q", v.merges, want)
	}
	if _, err := train(map[string]int{"aab": 3}, 1000); err == nil {
		t.Error("train() gave 1000 tokens of three letters, want an error")
	}
	text, err := v.encode()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenize.Parse("trained", text)
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Encode(nil, "aab"); len(got) != 1 {
		t.Errorf("Encode(aab) = %v, want one token", got)
	}
}
