package data

import (
	"path/filepath"
	"strings"
	"testing"
)

// What cannot be told is refused, with what to write instead.
func TestFormatsRefuse(t *testing.T) {
	own, flag := `{"query":"q","positive":"p"}`+"\n", `{"query":"q","pos":["p"],"neg":["n"]}`+"\n"
	ids := `{"query_text":"q","positive_document_ids":["d"],"negative_document_ids":[]}` + "\n"
	corpus := `{"docid":"d","document_text":"p"}` + "\n"
	beir := map[string]string{"corpus.jsonl": `{"_id":"d","text":"p"}`, "queries.jsonl": `{"_id":"q","text":"q"}`, "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\td\t1\n"}
	with := func(more map[string]string) map[string]string {
		all := map[string]string{}
		for _, files := range []map[string]string{beir, more} {
			for name, text := range files {
				all[name] = text
			}
		}
		return all
	}
	type files = map[string]string
	for _, c := range []struct {
		name   string
		files  files
		path   string
		format string
		want   []string // $ stands for the folder
	}{
		{"unknown word", files{"a.jsonl": own}, "a.jsonl", "tevatorn", []string{`$/a.jsonl: format: "tevatorn"; allowed: counterpoint, echo, flagembedding, tevatron, tevatron-legacy, sentence-transformers, beir`}},
		{"two formats in a row", files{"a.jsonl": `{"query":"q","positive":"p","pos":["p"]}`}, "a.jsonl", "", []string{"$/a.jsonl:1: the row fits counterpoint (query, positive) and flagembedding (query, pos); write format: counterpoint or format: flagembedding"}},
		{"negative and negatives", files{"a.jsonl": `{"query":"q","positive":"p","negative":"n","negatives":["n"]}`}, "a.jsonl", "", []string{"write format: counterpoint or format: echo"}},
		{"a word miswritten", files{"a.jsonl": `{"task":"t","query":"q","positive":"p","negative":"n"}`}, "a.jsonl", "", []string{`$/a.jsonl:1: key "negatives": missing; did you mean "negatives" where "negative" is written?`}},
		{"mixed file", files{"a.jsonl": own + "\n" + flag}, "a.jsonl", "", []string{`$/a.jsonl:3: key "positive": missing`, "The row is of the format flagembedding (query, pos) and the file is read as counterpoint", "format: flagembedding"}},
		{"mixed negatives", files{"a.jsonl": own + `{"query":"q","positive":"p","negative":"n"}`}, "a.jsonl", "", []string{`$/a.jsonl:2: key "negatives": missing; did you mean`, "format: echo"}},
		{"mixed folder", files{"a.jsonl": own, "b.jsonl": flag}, "", "", []string{"a.jsonl is of the format counterpoint and b.jsonl of the format flagembedding: write one path for each"}},
		{"splits", files{"train.jsonl": own, "test.jsonl": own}, "", "", []string{"write the one to train on as path: $/test.jsonl or path: $/train.jsonl"}},
		{"twice", files{"a.jsonl": own, "a.jsonl.gz": own}, "", "", []string{"a twice, in two forms: write path: $/a.jsonl or path: $/a.jsonl.gz"}},
		{"no format", files{"a.jsonl": `{"question":"q","answer":"p"}`}, "a.jsonl", "", []string{"$/a.jsonl:1: the keys question, answer are of no known format; allowed: counterpoint (query, positive), echo", "format: sentence-transformers"}},
		{"near", files{"a.jsonl": `{"query":"q","positive_pasages":[]}`}, "a.jsonl", "", []string{`did you mean "positive_passages" where "positive_pasages" is written?`}},
		{"columns out of order", files{"a.jsonl": `{"positive":"p","anchor":"q"}`}, "a.jsonl", "", []string{"$/a.jsonl:1: found the columns positive, anchor", "write format: sentence-transformers"}},
		{"label", files{"a.jsonl": `{"anchor":"q","positive":"p","label":1}`}, "a.jsonl", "", []string{`$/a.jsonl: the column "label" makes these rows for another loss`}},
		{"another column", files{"a.jsonl": `{"a":"q","b":"p"}` + "\n" + `{"a":"q","b":"p","c":"n"}`}, "a.jsonl", SentenceTransformers, []string{"$/a.jsonl:2: found the columns a, b, c; those of the first row are allowed: a, b"}},
		{"number in a column", files{"a.jsonl": `{"a":"q","b":7}`}, "a.jsonl", SentenceTransformers, []string{`$/a.jsonl:1:14: key "b": found a number; a string is allowed`}},
		{"no in-batch negatives", files{"x-no_in_batch_neg/a.jsonl": flag}, "x-no_in_batch_neg", "", []string{"turns in-batch negatives off", "write format: flagembedding"}},
		{"passage", files{"a.jsonl": `{"query":"q","positive_passages":[{"title":"t","txt":"p"}]}`}, "a.jsonl", "", []string{`$/a.jsonl:1:35: key "positive_passages[0].text": missing; did you mean "text" where "txt" is written?`}},
		{"no corpus", files{"a.jsonl": ids}, "a.jsonl", "", []string{"$/a.jsonl: format: tevatron: the documents are needed in the same folder, as corpus.jsonl"}},
		{"corpus as rows", files{"corpus.jsonl": corpus}, "corpus.jsonl", "", []string{"$/corpus.jsonl:1: a corpus of Tevatron; give the path of the file with the queries"}},
		{"document missing", files{"a.jsonl": strings.Replace(ids, `["d"]`, `["d","e"]`, 1), "corpus.jsonl": corpus}, "", "", []string{`$/a.jsonl:1: key "positive_document_ids": the document "e" is not in $/corpus.jsonl`}},
		{"document empty", files{"a.jsonl": ids, "corpus.jsonl": `{"docid":"d","text":" "}`}, "", "", []string{`the document "d" is empty ($/corpus.jsonl:1)`}},
		{"document twice", files{"a.jsonl": ids, "corpus.jsonl": corpus + corpus}, "", "", []string{`$/corpus.jsonl:2: key "docid": "d" occurs twice, first on line 1`}},
		{"image", files{"a.jsonl": ids, "corpus.jsonl": `{"docid":"d","text":"p","image":"x.png"}`}, "", "", []string{`$/corpus.jsonl:1:33: key "image": found a string; only text is read, and null is allowed`}},
		{"both texts", files{"a.jsonl": ids, "corpus.jsonl": `{"docid":"d","text":"p","document_text":"p"}`}, "", "", []string{`key "document_text": found 2 of document_text and text`}},
		{"only a test split", beir, "", "", []string{"$: no qrels/train.tsv; to train on other judgments write path: $/qrels/test.tsv"}},
		{"rows beside a set", with(files{"pairs.jsonl": own}), "", "", []string{"the folder has a set in BEIR layout and rows in pairs.jsonl: write path: $/qrels/train.tsv or path: $/pairs.jsonl"}},
		{"judged document missing", with(files{"qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\te\t1\n"}), "qrels/test.tsv", "", []string{`$/queries.jsonl:1: key "_id": the document "e" is not in $/corpus.jsonl`}},
		{"nothing relevant", with(files{"qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\td\t0\n"}), "qrels/test.tsv", "", []string{"$/qrels/test.tsv: no document is relevant to any query"}},
		{"no query judged", with(files{"qrels/test.tsv": "query-id\tcorpus-id\tscore\nr\td\t1\n"}), "qrels/test.tsv", "", []string{"read $/queries.jsonl: no rows: no document is relevant to any of its 1 queries"}},
		{"queries as rows", beir, "queries.jsonl", "", []string{"$/queries.jsonl:1: a corpus or queries file in BEIR layout; give the path of its folder"}},
		{"query twice", with(files{"queries.jsonl": strings.Repeat(beir["queries.jsonl"]+"\n", 2)}), "qrels/test.tsv", "", []string{`$/queries.jsonl:2: key "_id": "q" occurs twice, first on line 1`}},
		{"beir of a file", files{"a.jsonl": own}, "a.jsonl", BEIR, []string{"$/a.jsonl: format: beir needs a folder"}},
		{"chat", files{"a.jsonl": `{"messages":[]}`}, "a.jsonl", "", []string{"$/a.jsonl:1: rows of chat messages"}},
		{"cut Parquet", files{"a.parquet": "PAR1"}, "", "", []string{"$/a.parquet: 4 bytes are no Parquet file"}},
		{"no Parquet", files{"a.parquet": own}, "", "", []string{`$/a.parquet:1: begins with "{\"qu" and is no Parquet file`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folderOf(t, c.files)
			s, err := Open([]Source{{Path: filepath.Join(dir, c.path), Format: c.format}}, Order{Batch: 1, MaxLength: 8}, words{}, t.TempDir(), quiet)
			if err == nil {
				s.Close()
				t.Fatal("Open = no error, want one")
			}
			for _, want := range c.want {
				if want = strings.ReplaceAll(want, "$", dir); !strings.Contains(err.Error(), want) {
					t.Errorf("Open = %q, want %q", err, want)
				}
			}
		})
	}
}
