// Gentokenizer trains the tokenizer of the tiny presets: byte-level BPE with GPT-2's pre-tokeniser over the
// distinct texts of a file of training pairs. The same file gives the same bytes.
package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/counterpoint-ml/counterpoint/data/tokenize"
)

func main() {
	in := flag.String("in", "configs/quickstart/train.jsonl.gz", "training pairs, JSONL.gz")
	out := flag.String("out", "data/tokenize/tiny", "folder for tokenizer.json and tokenizer_config.json")
	size := flag.Int("size", 4096, "tokens, special ones included")
	flag.Parse()
	if err := run(*in, *out, *size); err != nil {
		fmt.Fprintln(os.Stderr, "gentokenizer:", err)
		os.Exit(1)
	}
}

func run(in, out string, size int) error {
	tokenizer, config, err := generate(in, size)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, tokenize.FileName), tokenizer, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, tokenize.ConfigName), config, 0o644)
}

// generate returns the contents of tokenizer.json and tokenizer_config.json.
func generate(in string, size int) (tokenizer, config []byte, err error) {
	counts, err := countWords(in)
	if err != nil {
		return nil, nil, err
	}
	v, err := train(counts, size)
	if err != nil {
		return nil, nil, err
	}
	if tokenizer, err = v.encode(); err != nil {
		return nil, nil, err
	}
	return tokenizer, encodeConfig(), nil
}

// countWords counts the words of the file's distinct texts; a text that many rows share counts once.
func countWords(in string) (map[string]int, error) {
	f, err := os.Open(in)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in, err)
	}
	cutter, err := tokenize.Parse("empty vocabulary", []byte(`{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"type":"BPE","vocab":{},"merges":[]}}`))
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	seen := map[string]bool{}
	dec := json.NewDecoder(bufio.NewReader(zr))
	for row := 1; ; row++ {
		var pair struct {
			Task, Query, Positive string
			Negatives             []string
		}
		if err := dec.Decode(&pair); errors.Is(err, io.EOF) {
			return counts, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: row %d: %w", in, row, err)
		}
		for _, text := range append([]string{pair.Task, pair.Query, pair.Positive}, pair.Negatives...) {
			if seen[text] {
				continue
			}
			seen[text] = true
			for _, w := range cutter.Words(text) {
				counts[w]++
			}
		}
	}
}
