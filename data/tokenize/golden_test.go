package tokenize

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

// goldenRow is one line of an expected.jsonl.gz; absent texts and ids mean "as the others".
type goldenRow struct {
	Group       string  `json:"group"`
	Text        string  `json:"text"`
	Pair        *string `json:"pair"`
	IDs         []int32 `json:"ids"`
	TypeIDs     []int32 `json:"type_ids"`
	NoSpecial   []int32 `json:"ids_no_special"`
	Decoded     *string `json:"decoded"`
	SkipSpecial *string `json:"decoded_skip_special"`
}

func readGz(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func readRows(t *testing.T, path string) []goldenRow {
	t.Helper()
	var rows []goldenRow
	lines := bufio.NewScanner(bytes.NewReader(readGz(t, path)))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var row goldenRow
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if lines.Err() != nil || len(rows) == 0 {
		t.Fatalf("%s: %d rows, %v", path, len(rows), lines.Err())
	}
	return rows
}

// openReal opens one of the large vocabularies of the data folder.
func openReal(t testing.TB, name string) *Tokenizer {
	t.Helper()
	dir := filepath.Join(golden.Data(t, "tokenizers"), name)
	var tok *Tokenizer
	var err error
	if name == "gpt2" {
		tok, err = Files{Vocab: readGz(t, filepath.Join(dir, "vocab.json.gz")), Merges: readGz(t, filepath.Join(dir, "merges.txt.gz"))}.Open(dir)
	} else {
		tok, err = Parse(name, readGz(t, filepath.Join(dir, "tokenizer.json.gz")))
	}
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestGoldenReal(t *testing.T) {
	for _, name := range []string{"gpt2", "qwen3", "llama3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows := readRows(t, filepath.Join(golden.Dir(t, "tokenizers"), "real", name+".jsonl.gz"))
			tok := openReal(t, name)
			for _, row := range rows {
				checkRow(t, tok, row)
			}
			t.Logf("%d cases", len(rows))
		})
	}
}

// TestGoldenRealTemplate puts Meta's own post-processor into the Llama-3 file.
func TestGoldenRealTemplate(t *testing.T) {
	var template struct {
		PostProcessor json.RawMessage `json:"post_processor"`
		Rows          []goldenRow
	}
	text, err := os.ReadFile(filepath.Join(golden.Dir(t, "tokenizers"), "real", "llama3-template.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &template); err != nil || len(template.Rows) == 0 {
		t.Fatalf("%d rows, %v", len(template.Rows), err)
	}
	var file map[string]json.RawMessage
	if err := json.Unmarshal(readGz(t, filepath.Join(golden.Data(t, "tokenizers"), "llama3", "tokenizer.json.gz")), &file); err != nil {
		t.Fatal(err)
	}
	file["post_processor"] = template.PostProcessor
	content, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Parse("llama3-template", content)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range template.Rows {
		checkIDs(t, tok, row)
	}
}

func TestGoldenSynthetic(t *testing.T) {
	dir := filepath.Join(golden.Dir(t, "tokenizers"), "synthetic")
	var manifest struct {
		Tokenizers []struct{ Name, Why, Supported string }
	}
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &manifest); err != nil || len(manifest.Tokenizers) == 0 {
		t.Fatalf("%d tokenizers, %v", len(manifest.Tokenizers), err)
	}
	for _, c := range manifest.Tokenizers {
		t.Run(c.Name, func(t *testing.T) {
			tok, err := Open(filepath.Join(dir, c.Name))
			if kind, ok := strings.CutPrefix(c.Name, "unsupported-"); ok {
				if err == nil || !strings.Contains(strings.ToLower(err.Error()), kind) {
					t.Fatalf("Open() = %v, want an error that names %s", err, kind)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			rows := readRows(t, filepath.Join(dir, c.Name, "expected.jsonl.gz"))
			for _, row := range rows {
				checkRow(t, tok, row)
			}
			t.Logf("%d cases", len(rows))
		})
	}
}

func checkRow(t *testing.T, tok *Tokenizer, row goldenRow) {
	t.Helper()
	if plain := checkIDs(t, tok, row); row.Pair == nil {
		checkDecoding(t, tok, row, plain)
	}
}

// checkIDs returns the row's ids without special tokens.
func checkIDs(t *testing.T, tok *Tokenizer, row goldenRow) (plain []int32) {
	t.Helper()
	if row.Pair != nil {
		ids, types := tok.EncodePair(row.Text, *row.Pair)
		if !slices.Equal(ids, row.IDs) || !slices.Equal(types, row.TypeIDs) {
			t.Errorf("EncodePair(%.200q, %.200q) = %v %v, want %v %v", row.Text, *row.Pair, ids, types, row.IDs, row.TypeIDs)
		}
		return nil
	}
	report := t.Errorf
	if strings.HasPrefix(row.Group, "newer-than-") {
		report = t.Logf // the reference's Unicode tables differ from Go's there
	}
	if got := tok.EncodeSpecial(nil, row.Text); !slices.Equal(got, row.IDs) {
		report("%s: EncodeSpecial(%.200q) = %s, want %s", row.Group, row.Text, brief(got), brief(row.IDs))
	}
	if plain = row.NoSpecial; plain == nil {
		plain = row.IDs
	}
	if got := tok.Encode(nil, row.Text); !slices.Equal(got, plain) {
		report("%s: Encode(%.200q) = %s, want %s", row.Group, row.Text, brief(got), brief(plain))
	}
	return plain
}

func checkDecoding(t *testing.T, tok *Tokenizer, row goldenRow, plain []int32) {
	t.Helper()
	want := row.Text
	if row.Decoded != nil {
		want = *row.Decoded
	}
	if got := tok.Decode(plain, false); got != want {
		t.Errorf("%s: Decode(%s) = %.200q, want %.200q", row.Group, brief(plain), got, want)
	}
	if row.SkipSpecial != nil {
		want = *row.SkipSpecial
	}
	if got := tok.Decode(plain, true); got != want {
		t.Errorf("%s: Decode(%s, skip) = %.200q, want %.200q", row.Group, brief(plain), got, want)
	}
}

func TestGoldenMalformed(t *testing.T) {
	dir := filepath.Join(golden.Dir(t, "tokenizers"), "malformed")
	var cases []struct {
		File, Expect, Why string
		Probe             *struct {
			Text string
			IDs  []int32
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, c := range cases {
		t.Run(c.File, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join(dir, c.File))
			if err != nil {
				t.Fatal(err)
			}
			tok, err := Parse(c.File, content)
			switch {
			case err != nil && c.Expect == "valid":
				t.Fatalf("%s: %v", c.Why, err)
			case err != nil:
				if !strings.Contains(err.Error(), c.File) {
					t.Errorf("error %q does not name the file", err)
				}
				return
			case c.Expect == "error":
				t.Fatalf("accepted, want an error: %s", c.Why)
			}
			tok.Encode(nil, strings.Repeat("a", 40)+"b") // an answer within the test's time
			if c.Probe != nil {
				if got := tok.Encode(nil, c.Probe.Text); !slices.Equal(got, c.Probe.IDs) {
					t.Errorf("Encode(%q) = %v, want %v", c.Probe.Text, got, c.Probe.IDs)
				}
			}
		})
	}
}

func brief(ids []int32) string {
	if len(ids) > 60 {
		return fmt.Sprint(ids[:60], "...")
	}
	return fmt.Sprint(ids)
}
