package encode_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/parquet"
	"github.com/counterpoint-ml/counterpoint/data/parquet/parquettest"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
)

// TestTable: a Parquet file has the vectors of a JSONL file to the last bit, and their ids as text. Texts may come from
// Parquet too.
func TestTable(t *testing.T) {
	e := open(t, sentence(t), encode.Options{BatchTokens: 64})
	dir, input := t.TempDir(), `{"id":"a\"é","text":"one"}`+"\n"+`{"id":7,"text":"two words"}`+"\n"+`"three"`+"\n"
	var lines strings.Builder
	s := encode.Stream{Encoder: e, Input: strings.NewReader(input), Name: "in", Format: encode.JSONL, Stdout: &lines}
	if _, err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, want := decode(t, []byte(lines.String()))
	s.Input, s.Format, s.Out = strings.NewReader(input), encode.Parquet, filepath.Join(dir, "v.parquet")
	if _, err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	ids, rows := readTable(t, s.Out)
	if d := difference(rows, want); d != 0 || strings.Join(ids, "|") != `a"é|7|null` {
		t.Errorf("vectors differ by %g, ids %q", d, ids)
	}
	if left, _ := filepath.Glob(s.Out + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	texts := filepath.Join(dir, "texts.parquet")
	parquettest.Write(t, texts, `{"id":"x","text":"one"}`+"\n"+`{"id":"y","text":"two words"}`, parquettest.Options{Codec: "snappy", Group: 1})
	in, err := data.OpenText(texts)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	s.Input, s.Out = in, filepath.Join(dir, "w.parquet")
	if _, err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	ids, rows = readTable(t, s.Out)
	if d := difference(rows, want[:2*e.Width()]); d > 1e-6 || strings.Join(ids, "|") != "x|y" {
		t.Errorf("vectors of texts from Parquet differ by %g, ids %q", d, ids)
	}
	s.Out = ""
	if _, err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "need a file to write to") {
		t.Errorf("Run() to standard output = %v, want a refusal", err)
	}
}

func readTable(t *testing.T, path string) (ids []string, rows []float32) {
	t.Helper()
	r, err := parquet.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		line, err := r.Next()
		if errors.Is(err, io.EOF) {
			return ids, rows
		}
		var row struct {
			ID        *string
			Embedding []float32
		}
		if err := errors.Join(err, json.Unmarshal(line, &row)); err != nil {
			t.Fatal(err)
		}
		if row.ID == nil {
			row.ID = new("null")
		}
		ids, rows = append(ids, *row.ID), append(rows, row.Embedding...)
	}
}
