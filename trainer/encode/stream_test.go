package encode_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
)

func sentence(t testing.TB) string {
	return filepath.Join(golden.Dir(t, "sentence-transformers"), "mean")
}

// manyTexts are lines of all spellings, some longer than the model's limit.
func manyTexts(n int) string {
	var b strings.Builder
	for i := range n {
		text := strings.Repeat(fmt.Sprintf("text number %d ", i), i%9+1)
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, "%q\n", text)
		case 1:
			fmt.Fprintf(&b, "{\"text\": %q}\n\n", text)
		case 2:
			fmt.Fprintf(&b, "{\"id\": %d, \"text\": %q, \"more\": [1]}\n", i, text)
		default:
			fmt.Fprintf(&b, "{\"_id\": \"d%d\", \"title\": \"A title\", \"text\": %q}\n", i, text)
		}
	}
	return b.String()
}

// decode reads vectors of a JSONL file.
func decode(t *testing.T, text []byte) (ids []string, rows []float32) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var v struct {
			ID        json.RawMessage `json:"id"`
			Embedding []float32       `json:"embedding"`
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%.60s: %v", line, err)
		}
		ids, rows = append(ids, string(v.ID)), append(rows, v.Embedding...)
	}
	return ids, rows
}

// TestStream: vectors come in the order of the texts, equal to those of the texts by themselves, in both formats.
func TestStream(t *testing.T) {
	e := open(t, sentence(t), encode.Options{BatchTokens: 64})
	const n = 150 // several windows
	var out bytes.Buffer
	reports := 0
	s := encode.Stream{Encoder: e, Prompt: "p: ", Input: strings.NewReader(manyTexts(n)), Name: "in", Format: encode.JSONL, Stdout: &out, Report: func(encode.Stats) { reports++ }}
	stats, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ids, rows := decode(t, out.Bytes())
	if stats.Texts != n || len(ids) != n || reports < 2 || stats.Truncated == 0 {
		t.Errorf("%d texts, %d lines, %d reports, %d truncated, want %d, %d, several, some", stats.Texts, len(ids), reports, stats.Truncated, n, n)
	}
	if ids[2] != "2" || ids[3] != `"d3"` || ids[0] != "" {
		t.Errorf("ids %v", ids[:4])
	}
	var alone []float32
	for i := range n {
		text := strings.Repeat(fmt.Sprintf("text number %d ", i), i%9+1)
		if i%4 == 3 {
			text = strings.TrimSpace("A title " + text)
		}
		alone = append(alone, embed(t, e, "p: ", []string{text})...)
	}
	if d := difference(rows, alone); d > 1e-6 {
		t.Errorf("rows differ by %g from those of the texts by themselves", d)
	}
	path := filepath.Join(t.TempDir(), "v.npy")
	s.Input, s.Format, s.Out, s.Stdout = strings.NewReader(manyTexts(n)), encode.NPY, path, nil
	if _, err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(npy(t, text, n, e.Width()), rows); d != 0 {
		t.Errorf("the .npy differs by %g", d)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// npy reads an array as numpy.lib.format says.
func npy(t *testing.T, text []byte, n, d int) []float32 {
	t.Helper()
	size := 10 + int(binary.LittleEndian.Uint16(text[8:]))
	want := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", n, d)
	if string(text[:8]) != "\x93NUMPY\x01\x00" || size%64 != 0 || !strings.HasPrefix(string(text[10:]), want) || text[size-1] != '\n' {
		t.Fatalf("header %q, want %s", text[:size], want)
	}
	var out []float32
	for body := text[size:]; len(body) > 0; body = body[4:] {
		out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(body)))
	}
	return out
}

// breaking ends a reader with an error after so many bytes.
type breaking struct {
	text string
	left int
}

var errBroken = errors.New("broken")

func (b *breaking) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errBroken
	}
	n := copy(p, b.text[:min(b.left, len(b.text))])
	b.text, b.left = b.text[n:], b.left-n
	return n, nil
}

// TestResume: an interrupted stream goes on, and ends with the bytes of one that was not.
func TestResume(t *testing.T) {
	const n = 400
	input := manyTexts(n)
	for _, format := range encode.Formats {
		t.Run(format, func(t *testing.T) {
			e := open(t, sentence(t), encode.Options{BatchTokens: 64})
			dir := t.TempDir()
			whole, parts := filepath.Join(dir, "whole"), filepath.Join(dir, "parts")
			s := encode.Stream{Encoder: e, Input: strings.NewReader(input), Name: "in", Format: format, Out: whole}
			first, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			s.Out, s.Resume = parts, true
			for _, share := range []int{3, 2} { // from a third; then from a half
				s.Input = &breaking{input, len(input) / share}
				if _, err := s.Run(context.Background()); !errors.Is(err, errBroken) {
					t.Fatalf("Run() error = %v, want %v", err, errBroken)
				}
				f, err := os.OpenFile(parts+".partial", os.O_APPEND|os.O_WRONLY, 0) // a write that was not finished
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprint(f, `{"embedding":[0.1,0.`)
				_ = f.Close()
			}
			saved := s
			for what, change := range map[string]func(){
				"prompt": func() { s.Prompt = "another" },
				"input":  func() { s.Input = strings.NewReader(`"another"` + "\n" + input) },
				"short":  func() { s.Input = strings.NewReader(`"one"`) },
			} {
				s.Input = strings.NewReader(input)
				change()
				if _, err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "resume") {
					t.Errorf("resume with another %s: %v, want a refusal", what, err)
				}
				s = saved
			}
			s.Input = strings.NewReader(input)
			stats, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if stats.Skipped == 0 || stats.Texts != n || stats.Truncated != first.Truncated || stats.Tokens != first.Tokens {
				t.Errorf("resumed: %+v, want totals as of %+v and some skipped", stats, first)
			}
			a, errA := os.ReadFile(whole)
			b, errB := os.ReadFile(parts)
			if errA != nil || errB != nil || !bytes.Equal(a, b) {
				t.Errorf("files of %d and %d bytes differ (%v, %v)", len(a), len(b), errA, errB)
			}
			if again, err := s.Run(context.Background()); err != nil || !again.Complete {
				t.Errorf("Run() over a complete file = %+v, %v", again, err)
			}
		})
	}
}

// TestBadLines: the error names file, line and fault.
func TestBadLines(t *testing.T) {
	e := open(t, sentence(t), encode.Options{})
	for line, want := range map[string]string{
		`{"query": "x"}`:               "no key text",
		`not JSON`:                     "neither a JSON string nor an object",
		`{"text": 5}`:                  "of type string",
		`{"text": "x", "id": {}}`:      "id",
		`{"text": "x"`:                 "unexpected end",
		`["x"]`:                        "neither",
		`"unfinished`:                  "unexpected end",
		`{"text": null, "id": "none"}`: "no key text",
	} {
		s := encode.Stream{Encoder: e, Input: strings.NewReader("\"fine\"\n\n" + line + "\n"), Name: "in.jsonl", Format: encode.JSONL, Stdout: &bytes.Buffer{}}
		if _, err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "in.jsonl:3: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("Run(%s) error = %v, want in.jsonl:3 and %q", line, err, want)
		}
	}
}

// TestOpenFaults: a folder that is no model, or not whole, is named with what is missing.
func TestOpenFaults(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		dir:                                  "no checkpoints",
		filepath.Join(dir, "absent"):         "absent",
		filepath.Join(sentence(t), "README"): "README",
		filepath.Join(sentence(t), "config.json"):         "a folder is needed",
		filepath.Join(golden.Dir(t, "lora"), "qwen2-all"): "",
	} {
		e, err := encode.Open(t.Context(), name, device(t), encode.Options{})
		if err == nil {
			_ = e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s) error = %v, want %q in it", name, err, want)
		}
	}
	e := open(t, sentence(t), encode.Options{})
	if _, err := e.Prompt("passage"); err == nil || !strings.Contains(err.Error(), "document, query") {
		t.Errorf("Prompt(passage) error = %v, want the names that there are", err)
	}
}

// TestUnnormalised: without the module Normalize an embedding keeps its length, and its direction.
func TestUnnormalised(t *testing.T) {
	source := sentence(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(source, "modules.json"))
	if err != nil {
		t.Fatal(err)
	}
	var modules []json.RawMessage
	if err := json.Unmarshal(text, &modules); err != nil {
		t.Fatal(err)
	}
	if text, err = json.Marshal(modules[:2]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	texts := []string{"library for summarizing data in streams"}
	raw, unit := embed(t, open(t, dir, encode.Options{}), "", texts), embed(t, open(t, source, encode.Options{}), "", texts)
	norm := 0.0
	for _, v := range raw {
		norm += float64(v) * float64(v)
	}
	norm = math.Sqrt(norm)
	if math.Abs(norm-1) < 0.1 {
		t.Fatalf("norm %g: the embedding was normalised", norm)
	}
	for i := range raw {
		raw[i] /= float32(norm)
	}
	if d := difference(raw, unit); d > embedTolerance {
		t.Errorf("the direction differs by %g", d)
	}
}

// TestPlainFolder: the same model as a Hugging Face folder is mean-pooled and cut where its tokenizer says.
func TestPlainFolder(t *testing.T) {
	source, dir := sentence(t), t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} {
		if err := os.Symlink(filepath.Join(source, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	whole, plain := open(t, source, encode.Options{}), open(t, dir, encode.Options{})
	if plain.Kind != encode.Folder || plain.MaxLength != whole.MaxLength {
		t.Errorf("kind %q, length %d, want %q, %d", plain.Kind, plain.MaxLength, encode.Folder, whole.MaxLength)
	}
	texts := []string{"a text", strings.Repeat("many words ", 100)}
	if d := difference(embed(t, plain, "", texts), embed(t, whole, "", texts)); d > embedTolerance {
		t.Errorf("embeddings differ by %g", d)
	}
	if _, cut := plain.Tokenize("", texts[1]); !cut {
		t.Error("a long text was not cut")
	}
}

// TestAdapterLength: the tokenizer of a base limits its adapter's texts as it does the base's, as transformers does it.
func TestAdapterLength(t *testing.T) {
	base := filepath.Join(golden.Dir(t, "sentence-transformers"), "mean")
	whole := open(t, base, encode.Options{})
	e := open(t, filepath.Join(golden.Dir(t, "lora"), "qwen2-all"), encode.Options{Base: base})
	if e.Kind != encode.Adapter || e.MaxLength != whole.MaxLength || e.MaxLength >= e.Architecture().MaxPositions {
		t.Errorf("kind %q, length %d, want %q, %d", e.Kind, e.MaxLength, encode.Adapter, whole.MaxLength)
	}
	if x, cut := e.Tokenize("", strings.Repeat("word ", e.MaxLength)); !cut || len(x.Tokens) != whole.MaxLength {
		t.Errorf("Tokenize() = %d tokens, cut %t, want %d", len(x.Tokens), cut, whole.MaxLength)
	}
}
