package tokenize

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

// english returns about 4 MB of the queries and documents of a corpus.
func english(b *testing.B) []string {
	var texts []string
	for line := range strings.Lines(string(readGz(b, filepath.Join(golden.Data(b, "debian-packages"), "train.jsonl.gz")))) {
		var row struct{ Query, Positive string }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			b.Fatal(err)
		}
		texts = append(texts, row.Query, row.Positive)
		if len(texts) > 12_000 {
			break
		}
	}
	return texts
}

func BenchmarkEncode(b *testing.B) {
	texts := english(b)
	size := 0
	for _, text := range texts {
		size += len(text)
	}
	for _, name := range []string{"gpt2", "qwen3", "llama3"} {
		b.Run(name, func(b *testing.B) {
			tok := openReal(b, name)
			var ids []int32
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				for _, text := range texts {
					ids = tok.Encode(ids[:0], text)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	content := readGz(b, filepath.Join(golden.Data(b, "tokenizers"), "qwen3", "tokenizer.json.gz"))
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if _, err := Parse("qwen3", content); err != nil {
			b.Fatal(err)
		}
	}
}
