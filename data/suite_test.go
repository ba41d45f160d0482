package data

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

func TestCorpusGolden(t *testing.T) {
	dir := filepath.Join(golden.Dir(t, "files"), "jsonl")
	n := 0
	for _, c := range readManifest(t, dir) {
		if !strings.HasPrefix(c.File, "beir/") {
			continue
		}
		n++
		t.Run(c.File, func(t *testing.T) {
			path := filepath.Join(dir, c.File)
			src, err := openBEIRFile(path, "corpus", "", t.TempDir(), words{}, quiet)
			checkGolden(t, c, path, err)
			if err != nil {
				return
			}
			defer src.file.Close()
			if c.Documents > 0 && src.rows() != c.Documents {
				t.Errorf("read %s = %d documents, want %d", c.File, src.rows(), c.Documents)
			}
			for i, want := range c.Texts {
				if rec, err := src.record(uint32(i)); err != nil || rec.texts[0] != want {
					t.Errorf("document %d of %s = %q, %v, want %q", i, c.File, rec.texts[0], err, want)
				}
			}
		})
	}
	if n == 0 {
		t.Error("the manifest has no corpus files")
	}
}

// suiteDir writes a suite.
func suiteDir(t *testing.T, corpus, queries, qrels string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "qrels"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"corpus.jsonl": corpus, "queries.jsonl": queries, "qrels/test.tsv": qrels} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	corpusText  = `{"_id":"d1","title":"One","text":"first document"}` + "\n" + `{"_id":"d2","text":""}` + "\n" + `{"_id":"d3","title":"","text":"third"}` + "\n"
	queriesText = `{"_id":"q1","text":"which first"}` + "\n" + `{"_id":"q2","text":"not judged"}` + "\n" + `{"_id":"q3","text":"third"}` + "\n"
	qrelsText   = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq3\td3\t1\nq3\td9\t1\nq8\td1\t1\n"
)

func TestSuite(t *testing.T) {
	dir := suiteDir(t, corpusText, queriesText, qrelsText)
	var log bytes.Buffer
	s, err := OpenSuite(SuiteConfig{Path: dir, Instruction: "find", MaxLength: 16}, words{}, t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.Truncated(); got != 0 {
		t.Errorf("Truncated() = %d, want 0", got)
	}
	if cut, err := OpenSuite(SuiteConfig{Path: dir, Instruction: "find", MaxLength: 2}, words{}, t.TempDir(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	} else if got := cut.Truncated(); got != 2 { // "find: which first", "One first document"
		t.Errorf("Truncated() at 2 tokens = %d, want 2", got)
	} else if err := cut.Close(); err != nil {
		t.Fatal(err)
	}
	h := s.Header()
	if h.Queries != 2 || h.Slots != 5 || strings.Join(s.Queries, " ") != "q1 q3" || len(s.Documents) != 3 {
		t.Errorf("suite = %+v, queries %v, documents %v; want q1 q3 and three documents", h, s.Queries, s.Documents)
	}
	want := []string{"find: which first", "find: third", "One first document", " ", "third"}
	seen := 0
	for i := range s.Shards() {
		shard, err := s.Shard(i)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range shard.Texts {
			seen++
			tokens := words{}.Encode(nil, want[x.Slot])
			if len(tokens) == 0 {
				tokens = []int32{0}
			}
			if len(tokens) != len(x.Tokens) || tokens[0] != x.Tokens[0] {
				t.Errorf("slot %d = %v, want the tokens of %q", x.Slot, x.Tokens, want[x.Slot])
			}
		}
	}
	if seen != h.Slots {
		t.Errorf("%d texts in the shards, want %d", seen, h.Slots)
	}
	for _, part := range []string{"q8", "d9"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log does not name %s: %s", part, log.String())
		}
	}
	for slot, text := range []string{"which first", "third", "One first document", "", "third"} {
		if got, err := s.Text(slot); err != nil || got != text {
			t.Errorf("Text(%d) = %q, %v, want %q", slot, got, err, text)
		}
	}
}

func TestSuiteRefuses(t *testing.T) {
	for _, c := range []struct{ name, corpus, queries, qrels, split, want string }{
		{"empty corpus", "", queriesText, qrelsText, "", "corpus.jsonl: the file is empty"},
		{"blank corpus", "\n\n", queriesText, qrelsText, "", "corpus.jsonl: no rows"},
		{"document twice", corpusText + `{"_id":"d1","text":"x"}`, queriesText, qrelsText, "", `corpus.jsonl:4: key "_id": "d1" occurs twice, first on line 1`},
		{"query twice", corpusText, queriesText + `{"_id":"q1","text":"x"}`, qrelsText, "", `queries.jsonl:4: key "_id": "q1" occurs twice`},
		{"empty query", corpusText, `{"_id":"q1","text":" "}`, qrelsText, "", `queries.jsonl:1: key "text": found an empty query`},
		{"no query judged", corpusText, queriesText, "query-id\tcorpus-id\tscore\nx\td1\t1\n", "", "no query of"},
		{"no judged document", corpusText, queriesText, "query-id\tcorpus-id\tscore\nq1\tx7\t1\nq3\tx5\t1\n", "", `"x5" for example`},
		{"no judgments", corpusText, queriesText, "query-id\tcorpus-id\tscore\n", "", "test.tsv: no judgments"},
		{"split", corpusText, queriesText, qrelsText, "dev", `split: "dev"; test is allowed`},
		{"no header", corpusText, queriesText, "q1\td1\t1\n", "", "test.tsv:1: found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := suiteDir(t, c.corpus, c.queries, c.qrels)
			_, err := OpenSuite(SuiteConfig{Path: dir, Split: c.split, MaxLength: 16}, words{}, t.TempDir(), quiet)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("OpenSuite = %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzReadQrels(f *testing.F) {
	f.Add(qrelsText)
	f.Add("query-id\tcorpus-id\tscore\nq 1\td\t1.0\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		q, err := ReadQrels("f", strings.NewReader(text))
		if (err == nil) != (len(q) > 0) {
			t.Fatalf("ReadQrels(%q) = %v, %v", text, q, err)
		}
	})
}
