package data

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// folderOf writes files, by path, into a new folder; those that end in .gz are compressed.
func folderOf(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		raw := []byte(text)
		if strings.HasSuffix(name, ".gz") {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			if _, err := z.Write(raw); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			raw = b.Bytes()
		}
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// rows makes n lines.
func rows(n int, line func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line(i) + "\n")
	}
	return b.String()
}

// fixtures are the same 24 rows in every format: a path inside a folder, and the folder's files.
func fixtures() map[string]struct {
	path  string
	files map[string]string
} {
	const n = 24
	query := func(i int) string { return fmt.Sprintf("query %d é%s", i, strings.Repeat(" word", i%7)) }
	documents := rows(3*n, func(j int) string { // 3i is the positive of row i, the next two its negatives
		return fmt.Sprintf(`{"ID":"d%03d","title":"title %d","TEXT":"document %d%s"}`, j, j, j, strings.Repeat(" more", j%11))
	})
	document := func(j int) string { return fmt.Sprintf("title %d document %d%s", j, j, strings.Repeat(" more", j%11)) }
	passage := func(j int) string {
		return fmt.Sprintf(`{"docid":"d%03d","title":"title %d","text":"document %d%s"}`, j, j, j, strings.Repeat(" more", j%11))
	}
	row := func(format string) func(i int) string {
		return func(i int) string {
			return fmt.Sprintf(format, query(i), document(3*i), document(3*i+1), document(3*i+2))
		}
	}
	ours := rows(n, row(`{"query":%q,"positive":%q,"negatives":[%q,%q]}`))
	echo := rows(n, row(`{"query":%q,"positive":[%q],"negative":[%q,%q]}`))
	flag := rows(n, row(`{"query":%q,"pos":[%q],"neg":[%q,%q],"pos_scores":[1.5],"prompt":null,"type":"normal"}`))
	columns := rows(n, row(`{"anchor":%q,"positive":%q,"negative_1":%q,"negative_2":%q}`))
	forced := rows(n, row(`{"question":%q,"answer":%q,"wrong":%q,"worse":%q}`))
	legacy := rows(n, func(i int) string {
		return fmt.Sprintf(`{"query_id":"q%d","query":%q,"positive_passages":[%s],"negative_passages":[%s, %s]}`, i, query(i), passage(3*i), passage(3*i+1), passage(3*i+2))
	})
	ids := rows(n, func(i int) string {
		return fmt.Sprintf(`{"query_id":%d,"query_text":%q,"query_image":null,"positive_document_ids":["d%03d"],"negative_document_ids":["d%03d","d%03d"]}`, i, query(i), 3*i, 3*i+1, 3*i+2)
	})
	// Queries 100 to 104 are judged, but nothing is relevant to them; 105 is not judged at all.
	queries := rows(n, func(i int) string { return fmt.Sprintf(`{"_id":"q%d","text":%q}`, i, query(i)) }) +
		rows(6, func(i int) string { return fmt.Sprintf(`{"_id":"q%d","text":"another"}`, 100+i) })
	judgments := "query-id\tcorpus-id\tscore\n" +
		rows(n, func(i int) string {
			return fmt.Sprintf("q%d\td%03d\t0\nq%d\td%03d\t2\nq%d\td%03d\t0", i, 3*i+2, i, 3*i, i, 3*i+1)
		}) + rows(5, func(i int) string { return fmt.Sprintf("q%d\td000\t0", 100+i) })
	document2 := func(id, text string) string {
		return strings.ReplaceAll(strings.ReplaceAll(documents, `"ID"`, `"`+id+`"`), `"TEXT"`, `"`+text+`"`)
	}
	type files = map[string]string
	return map[string]struct {
		path  string
		files files
	}{
		Counterpoint:                    {"ours.jsonl", files{"ours.jsonl": ours}},
		Echo:                            {"", files{"echo.jsonl": echo}},
		FlagEmbedding:                   {"flag.jsonl.gz", files{"flag.jsonl.gz": flag}},
		SentenceTransformers:            {"columns.jsonl", files{"columns.jsonl": columns}},
		SentenceTransformers + " named": {"named.jsonl", files{"named.jsonl": forced}},
		TevatronLegacy:                  {"legacy.jsonl", files{"legacy.jsonl": legacy}},
		Tevatron:                        {"train.jsonl", files{"train.jsonl": ids, "corpus.jsonl.gz": document2("docid", "text"), "dev.jsonl": ids}},
		Tevatron + " packed":            {"", files{"train.jsonl.gz": ids, "corpus.jsonl": document2("docid", "document_text")}},
		BEIR:                            {"", files{"queries.jsonl": queries, "corpus.jsonl": document2("_id", "text"), "qrels/train.tsv": judgments, "qrels/test.tsv": "no judgments"}},
		BEIR + " split":                 {"qrels/dev.tsv", files{"queries.jsonl.gz": queries, "corpus.jsonl.gz": document2("_id", "text"), "qrels/dev.tsv": judgments}},
	}
}

// The same rows give the same batches in whatever format they are written, the format is told, and naming it changes
// nothing.
func TestFormatsAgree(t *testing.T) {
	order := Order{Batch: 8, HardNegatives: 1, MaxLength: 12, ShardTokens: 40, Seed: 7}
	all := fixtures()
	reference := open(t, order, t.TempDir(), Source{Path: filepath.Join(folderOf(t, all[Counterpoint].files), all[Counterpoint].path), Document: "passage"})
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			want, _, _ := strings.Cut(name, " ")
			source := Source{Path: filepath.Join(folderOf(t, c.files), c.path), Document: "passage"}
			if strings.HasSuffix(name, "named") {
				source.Format = SentenceTransformers
			}
			cache := t.TempDir()
			told := open(t, order, cache, source)
			source.Format = want
			named := open(t, order, cache, source)
			if told.Digest() != named.Digest() {
				t.Errorf("the digest is %s with the format told and %s with it named", told.Digest(), named.Digest())
			}
			stats := named.Stats().Sources[0]
			if unjudged := map[bool]int{true: 6}[want == BEIR]; stats.Format != want || stats.Unjudged != unjudged || stats.Rows != 24 {
				t.Errorf("Stats() = %+v, want 24 rows in the format %s, %d left out", stats, want, unjudged)
			}
			for step := range int64(7) {
				hr, sr := shards(t, reference, step)
				for which, s := range map[string]*Set{"indexed": told, "cached": named} {
					h, x := shards(t, s, step)
					if d := cmp.Diff(hr, h) + cmp.Diff(sr, x); d != "" {
						t.Fatalf("batch %d (%s) differs from that of our own format: %s", step, which, d)
					}
				}
			}
		})
	}
}

// What rows refer to is part of the digest, and is noticed when it changes.
func TestJoinedFilesCount(t *testing.T) {
	order := Order{Batch: 24, MaxLength: 12, Seed: 7}
	for name, files := range map[string][]string{Tevatron: {"corpus.jsonl"}, BEIR: {"corpus.jsonl", "qrels/train.tsv"}} {
		for _, file := range files {
			t.Run(name+" "+file, func(t *testing.T) {
				all := fixtures()
				c := all[name]
				if name == Tevatron {
					c = all[Tevatron+" packed"]
				}
				dir, cache := folderOf(t, c.files), t.TempDir()
				before := open(t, order, cache, Source{Path: dir})
				text := strings.Replace(c.files[file], "document 33", "document 34", 1)
				if strings.HasSuffix(file, ".tsv") {
					text = strings.Replace(text, "\t2", "\t1", 1) + "q1\td050\t1\n"
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				if after := open(t, order, cache, Source{Path: dir}); after.Digest() == before.Digest() {
					t.Errorf("another %s has the same digest", file)
				}
				if file != "corpus.jsonl" {
					return
				}
				var got error
				b, err := before.Batch(0)
				for i := 0; err == nil && i < len(b.Header.Tokens); i++ {
					if _, err := b.Shard(i); err != nil {
						got = err
					}
				}
				if got == nil || !strings.Contains(got.Error(), ErrChanged.Error()) {
					t.Errorf("Shard() with a changed corpus = %v, want %v", got, ErrChanged)
				}
			})
		}
	}
}

// A folder is a source for each of its files; the entry's weight is parted by their rows.
func TestFolderOfFiles(t *testing.T) {
	line := func(i int) string {
		return fmt.Sprintf(`{"query":"q %d","positive":"p %d","negative":"n %d"}`, i, i, i)
	}
	dir := folderOf(t, map[string]string{"nli.jsonl": rows(10, line), "eli5.jsonl.gz": rows(30, line), "README.md": "no rows"})
	other := write(t, "other.jsonl", someRows(20))
	s := open(t, Order{Batch: 5, MaxLength: 8}, t.TempDir(), Source{Path: dir, Name: "echo", Weight: 2}, Source{Path: other, Weight: 2})
	var got []string
	for _, x := range s.Stats().Sources {
		got = append(got, fmt.Sprintf("%s %s %d %.3f", x.Name, x.Format, x.Rows, x.Share))
	}
	if d := cmp.Diff([]string{"echo/eli5 echo 30 0.375", "echo/nli echo 10 0.125", "other counterpoint 20 0.500"}, got); d != "" {
		t.Errorf("Stats(): %s", d)
	}
}

// The prompt of a row of FlagEmbedding is its instruction.
func TestFlagPrompt(t *testing.T) {
	p, err := parseFlag([]byte(`{"query":"q","pos":["p"],"prompt":"Represent this sentence: "}`))
	if want := (Pair{Task: "Represent this sentence", Query: "q", Positives: []string{"p"}}); err != nil || cmp.Diff(want, p) != "" {
		t.Errorf("parseFlag = %+v, %v, want %+v", p, err, want)
	}
}

// FuzzFormats: no line makes a reader panic; what one accepts is JSON, and has a query and positives.
func FuzzFormats(f *testing.F) {
	for _, c := range fixtures() {
		for name, text := range c.files {
			if line, _, _ := strings.Cut(text, "\n"); strings.Contains(name, ".jsonl") {
				f.Add([]byte(line))
			}
		}
	}
	f.Add([]byte(`{"query":"q","positive_passages":[{"docid":1,"title":null,"text":" "},7]}`))
	dir := folderOf(f, map[string]string{"corpus.jsonl": `{"docid":"d000","text":"a"}` + "\n" + `{"docid":7,"text":""}`})
	documents, err := openCorpus(filepath.Join(dir, "corpus.jsonl"), Tevatron, f.TempDir(), quiet)
	if err != nil {
		f.Fatal(err)
	}
	judged := Qrels{"q0": {"d000": 1, "7": 0}}
	f.Fuzz(func(t *testing.T, line []byte) {
		keys, _ := topKeys(line)
		_ = stranger("f", 1, keys)
		check := func(format string, p Pair, err error) {
			if err != nil {
				_ = lineError("f", 1, err).Error()
				return
			}
			var any map[string]json.RawMessage
			if err := json.Unmarshal(line, &any); err != nil {
				t.Fatalf("%s accepts %q, which encoding/json refuses: %v", format, line, err)
			}
			texts := append(append([]string{p.Query}, p.Positives...), p.Negatives...)
			for _, x := range texts {
				if strings.TrimSpace(x) == "" || len(p.Positives) == 0 {
					t.Fatalf("%s reads %q as %q", format, line, texts)
				}
			}
		}
		for _, format := range []string{Counterpoint, Echo, FlagEmbedding, TevatronLegacy, SentenceTransformers} {
			if parse, err := rowParser(format, keys); err == nil {
				p, err := parse(line)
				check(format, p, err)
			}
		}
		p, err := parseTevatron(line, documents)
		check(Tevatron, p, err)
		if rec, err := parseJudged(line, judged, documents); err == nil && (rec.queries != 1 || rec.positives < 1) {
			t.Fatalf("beir reads %q as %+v", line, rec)
		}
	})
}
