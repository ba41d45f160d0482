package data

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/counterpoint-ml/counterpoint/data/parquet/parquettest"
)

// tables writes a folder's files as Parquet, and judgments as rows.
func tables(t *testing.T, files map[string]string, o parquettest.Options) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		switch {
		case strings.HasSuffix(name, ".jsonl"), strings.HasSuffix(name, ".jsonl.gz"):
			name = strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".jsonl") + ".parquet"
		case text == "no judgments":
			continue
		default:
			text = judgmentRows(text)
			name = strings.TrimSuffix(name, ".tsv") + ".parquet"
		}
		parquettest.Write(t, filepath.Join(dir, name), text, o)
	}
	return dir
}

func judgmentRows(tsv string) string {
	var b strings.Builder
	for line := range strings.Lines(tsv) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); f[0] != "query-id" {
			fmt.Fprintf(&b, `{"query-id":%q,"corpus-id":%q,"score":%s}`+"\n", f[0], f[1], f[2])
		}
	}
	return b.String()
}

// Every format gives the same batches from Parquet as from JSON lines, however the file is written.
func TestTablesAgree(t *testing.T) {
	order := Order{Batch: 8, HardNegatives: 1, MaxLength: 12, ShardTokens: 40, Seed: 7}
	all := fixtures()
	reference := open(t, order, t.TempDir(), Source{Path: filepath.Join(folderOf(t, all[Counterpoint].files), all[Counterpoint].path), Document: "passage"})
	written := []parquettest.Options{{}, {Codec: "snappy", Group: 5}, {Codec: "gzip", Dictionary: true}, {Codec: "zstd", Dictionary: true, Group: 7}}
	n := 0
	for name, c := range all {
		o := written[n%len(written)]
		n++
		t.Run(name, func(t *testing.T) {
			path := strings.TrimSuffix(c.path, ".gz")
			for _, ending := range []string{".jsonl", ".tsv"} {
				path = strings.Replace(path, ending, ".parquet", 1)
			}
			source := Source{Path: filepath.Join(tables(t, c.files, o), path), Document: "passage"}
			if strings.HasSuffix(name, "named") {
				source.Format = SentenceTransformers
			}
			cache := t.TempDir()
			for _, which := range []string{"indexed", "cached"} {
				s := open(t, order, cache, source)
				format, _, _ := strings.Cut(name, " ")
				if stats := s.Stats().Sources[0]; stats.Format != format || stats.Rows != 24 {
					t.Errorf("Stats() = %+v, want 24 rows in the format %s", stats, format)
				}
				for step := range int64(7) {
					hr, sr := shards(t, reference, step)
					h, x := shards(t, s, step)
					if d := cmp.Diff(hr, h) + cmp.Diff(sr, x); d != "" {
						t.Fatalf("batch %d (%s, %+v) differs from that of JSON lines: %s", step, which, o, d)
					}
				}
			}
		})
	}
}

// The layouts of sets on the Hub: a split in parts, rows in data, and mteb's folders of a corpus, queries and judgments.
func TestTablesOfTheHub(t *testing.T) {
	line := func(i int) string { return fmt.Sprintf(`{"anchor":"q %d","positive":"p %d"}`, i, i) }
	parts := strings.SplitAfter(rows(30, line), "\n")
	dir := t.TempDir()
	for i := range 3 {
		parquettest.Write(t, filepath.Join(dir, "data", fmt.Sprintf("train-%05d-of-00003.parquet", i)), strings.Join(parts[10*i:10*i+10], ""), parquettest.Options{})
	}
	order := Order{Batch: 5, MaxLength: 8}
	want := open(t, order, t.TempDir(), Source{Path: write(t, "train.jsonl", rows(30, line))})
	for _, path := range []string{dir, filepath.Join(dir, "data"), filepath.Join(dir, "data", "train-*-of-00003.parquet")} {
		got := open(t, order, t.TempDir(), Source{Path: path})
		if s := got.Stats().Sources; len(s) != 1 || s[0].Rows != 30 || s[0].Name != "train" {
			t.Fatalf("%s: Stats() = %+v, want one source of 30 rows", path, s)
		}
		for step := range int64(6) {
			hw, sw := shards(t, want, step)
			h, s := shards(t, got, step)
			if d := cmp.Diff(hw, h) + cmp.Diff(sw, s); d != "" {
				t.Fatalf("%s: batch %d: %s", path, step, d)
			}
		}
	}
	first := filepath.Join(dir, "data", "train-00000-of-00003.parquet")
	if _, err := Open([]Source{{Path: first}}, order, words{}, t.TempDir(), quiet); err == nil || !strings.Contains(err.Error(), "one part of a table of 3: write path: "+filepath.Join(dir, "data", "train-*-of-00003.parquet")) {
		t.Errorf("Open(one part) = %v, want what to write", err)
	}
	if err := os.Remove(filepath.Join(dir, "data", "train-00001-of-00003.parquet")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open([]Source{{Path: dir}}, order, words{}, t.TempDir(), quiet); err == nil || !strings.Contains(err.Error(), "the part train-00001-of-00003.parquet is missing") {
		t.Errorf("Open(a part missing) = %v, want it named", err)
	}
}

func TestSuiteTables(t *testing.T) {
	jsonl := suiteDir(t, corpusText, queriesText, qrelsText)
	want, err := OpenSuite(SuiteConfig{Path: jsonl, MaxLength: 16}, words{}, t.TempDir(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	for name, files := range map[string][3]string{
		"files":   {"corpus.parquet", "queries.parquet", "qrels/test.parquet"},
		"folders": {"corpus/corpus-00000-of-00001.parquet", "queries/queries-00000-of-00001.parquet", "default/test-00000-of-00001.parquet"},
		"splits":  {"corpus/test-00000-of-00001.parquet", "queries/test-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			parquettest.Write(t, filepath.Join(dir, files[0]), corpusText, parquettest.Options{Codec: "snappy"})
			parquettest.Write(t, filepath.Join(dir, files[1]), strings.ReplaceAll(queriesText, `"_id"`, `"id"`), parquettest.Options{})
			parquettest.Write(t, filepath.Join(dir, files[2]), judgmentRows(qrelsText), parquettest.Options{Codec: "zstd"})
			got, err := OpenSuite(SuiteConfig{Path: dir, MaxLength: 16}, words{}, t.TempDir(), quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			if d := cmp.Diff(want.Sheet().Qrels, got.Sheet().Qrels) + cmp.Diff(want.Documents, got.Documents) + cmp.Diff(want.Queries, got.Queries); d != "" {
				t.Errorf("the suite differs from that of JSON lines: %s", d)
			}
			a, errA := want.Shard(0)
			b, errB := got.Shard(0)
			if d := cmp.Diff(a, b); d != "" || errA != nil || errB != nil {
				t.Errorf("shard 0: %s %v %v", d, errA, errB)
			}
		})
	}
}

// What is wrong in a table is named with file, row and column.
func TestTablesRefuse(t *testing.T) {
	own := `{"query":"q","positive":"p"}` + "\n"
	for _, c := range []struct {
		name, text, format, want string
	}{
		{"wrong type", own + `{"query":null,"positive":"p"}` + "\n", "", `$/a.parquet: row 2: key "query": found null; a string is allowed`},
		{"number", `{"query":"q","positive":7}`, "", `$/a.parquet: row 1: key "positive": found a number; a string is allowed`},
		{"list of numbers", `{"query":"q","positive":[7]}`, "", `key "positive": found a number`},
		{"no positive", `{"query":"q","answer":"p"}`, "", `$/a.parquet: row 1: the keys query, answer are of no known format`},
		{"empty list", `{"query":"q","pos":["p"]}` + "\n" + `{"query":"q","pos":[]}`, "", `$/a.parquet: row 2: key "pos": an empty list; a list of texts is allowed`},
		{"two formats", `{"query":"q","positive":"p","pos":["p"]}`, "", `write format: counterpoint or format: flagembedding`},
		{"label", `{"anchor":"q","positive":"p","label":1}`, "", `the column "label" makes these rows for another loss`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			parquettest.Write(t, filepath.Join(dir, "a.parquet"), c.text, parquettest.Options{})
			_, err := Open([]Source{{Path: filepath.Join(dir, "a.parquet"), Format: c.format}}, Order{Batch: 1, MaxLength: 8}, words{}, t.TempDir(), quiet)
			if want := strings.ReplaceAll(c.want, "$", dir); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Open = %v, want %q", err, want)
			}
		})
	}
	dir := folderOf(t, map[string]string{"b.jsonl": `{"query":"q","pos":["p"]}`})
	parquettest.Write(t, filepath.Join(dir, "a.parquet"), own, parquettest.Options{})
	want := "a.parquet is of the format counterpoint and b.jsonl of the format flagembedding: write one path for each"
	if _, err := Open([]Source{{Path: dir}}, Order{Batch: 1, MaxLength: 8}, words{}, t.TempDir(), quiet); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Open(mixed folder) = %v, want %q", err, want)
	}
}

func TestOpenRows(t *testing.T) {
	text := `{"id":7,"text":"a","labels":["x","y"],"score":1.5,"n":3,"ok":true,"docs":[{"docid":"d","text":"t"}],"none":null}` + "\n" +
		`{"id":8,"text":"b","labels":[],"score":2,"n":4,"ok":false,"docs":[],"none":null}` + "\n"
	dir := folderOf(t, map[string]string{"a.jsonl": text, "b.jsonl.gz": text})
	parquettest.Write(t, filepath.Join(dir, "c.parquet"), text, parquettest.Options{Codec: "zstd"})
	for _, name := range []string{"a", "b", "c"} {
		path, err := FindRows(dir, name, "")
		if err != nil {
			t.Fatal(err)
		}
		rows, err := OpenRows(path)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var got []string
		for row, err := range rows.All() {
			if err != nil {
				t.Fatal(err)
			}
			id, err1 := row.ID("id")
			value, err2 := row.Text("text")
			labels, err3 := row.IDs("labels")
			score, err4 := row.Float("score")
			n, err5 := row.Int("n")
			ok, err6 := row.Int("ok")
			docs, err7 := row.Objects("docs")
			inner := ""
			for _, d := range docs {
				if inner, err = d.Text("text"); err != nil {
					t.Error(err)
				}
			}
			for _, err := range []error{err1, err2, err3, err4, err5, err6, err7} {
				if err != nil {
					t.Error(err)
				}
			}
			got = append(got, fmt.Sprintln(row.Line, id, value, labels, score, n, ok, inner, row.Has("none"), row.Has("absent"), row.Kind("docs")))
			for key, want := range map[string]string{
				"absent": fmt.Sprintf(`key "absent": missing (found %s)`, list(row.Keys())),
				"docs":   `key "docs": found a list; a string is allowed`, "none": `key "none": found null; a string is allowed`,
			} {
				if _, err := row.Text(key); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path) {
					t.Errorf("Text(%q) = %v, want %s", key, err, want)
				}
			}
		}
		want := []string{"1 7 a [x y] 1.5 3 1 t false false list\n", "2 8 b [] 2 4 0  false false list\n"}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
	if _, err := FindRows(dir, "d", ""); err == nil || !strings.Contains(err.Error(), "no rows of d") {
		t.Errorf("FindRows(absent) = %v", err)
	}
}
