package data

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/parquet/parquettest"
)

// Every kind of task is the same suite, text by text and label by label, from Parquet as from JSON lines.
func TestTasksFromParquet(t *testing.T) {
	pools := map[string]string{
		"corpus":  `{"_id":"d1","title":"A","text":"b"}` + "\n" + `{"_id":"d2","title":"","text":"c"}` + "\n" + `{"_id":"d3","title":"Ü","text":""}`,
		"queries": `{"_id":"7-og","text":"q"}` + "\n" + `{"_id":"7-changed","text":"q"}`,
		"default": `{"query-id":"7-og","corpus-id":"d1","score":1}` + "\n" + `{"query-id":"7-og","corpus-id":"d2","score":0}` + "\n" +
			`{"query-id":"7-changed","corpus-id":"d1","score":2}`,
		"top_ranked": `{"query-id":"7-og","corpus-ids":["d1","d2"]}` + "\n" + `{"query-id":"7-changed","corpus-ids":["d3","d1"]}`,
	}
	with := func(more map[string]string) map[string]string {
		out := map[string]string{}
		for _, m := range []map[string]string{pools, more} {
			for k, v := range m {
				out[k] = v
			}
		}
		return out
	}
	for _, c := range []struct {
		name, task string
		path       string            // under the folder
		files      map[string]string // rows by name without an ending
		hub        map[string]string // other places of Parquet files, as on the Hub
	}{
		{"sts", STSTask, "test", map[string]string{"test": `{"sentence1":"a b","sentence2":"c","score":2.5}` + "\n" + `{"sentence1":"é","sentence2":"e f","score":5}`}, nil},
		{"pairs", PairsTask, "test", map[string]string{"test": `{"sentence1":"a","sentence2":"b","label":0}` + "\n" + `{"sentence1":"c","sentence2":"d","label":1}`}, nil},
		{"pairs in lists", PairsTask, "test", map[string]string{"test": `{"sent1":["a","b c"],"sent2":["d","e"],"labels":[0,1]}`}, nil},
		{"pairs of boolean labels", PairsTask, "test", map[string]string{"test": `{"sentence1":"a","sentence2":"b","label":true}` + "\n" + `{"sentence1":"c","sentence2":"d","label":false}`}, nil},
		{
			"classification", ClassificationTask, "",
			map[string]string{
				"train": `{"text":"a b","label":3}` + "\n" + `{"text":"c","label":1}` + "\n" + `{"text":"d","label":3}`, "test": `{"text":"e","label":1}`,
			},
			map[string]string{"train": "data/train-00000-of-00001", "test": "data/test-00000-of-00001"},
		},
		{"clustering of sets", ClusteringTask, "test", map[string]string{"test": `{"sentences":["a","b","c"],"labels":["x","y","x"]}` + "\n" + `{"sentences":["d","e"],"labels":["x","z"]}`}, nil},
		{"clustering of levels", ClusteringTask, "test", map[string]string{"test": `{"sentences":"a","labels":["x","x1"]}` + "\n" + `{"sentences":"b","labels":["y"]}`}, nil},
		{"clustering of labels", ClusteringTask, "test", map[string]string{"test": `{"sentences":"a","labels":12}` + "\n" + `{"sentences":"b","labels":7}`}, nil},
		{"rerank", RerankTask, "test", map[string]string{"test": `{"query":"q w","positive":["a"],"negative":["b","c"]}` + "\n" + `{"query":"r","positive":["d"],"negative":["b"]}`}, nil},
		{"rerank of lists", RerankTask, "test", map[string]string{"test": `{"query":["s","t"],"positive":["u"],"negative":["v"]}`}, nil},
		{"rerank of a folder", RerankTask, "", pools, map[string]string{"corpus": "corpus/corpus-00000-of-00001", "top_ranked": "top_ranked/test-00000-of-00001"}},
		{"bitext", BitextTask, "test", map[string]string{"test": `{"sentence1":"a","sentence2":"b"}`}, nil},
		{"summarization", SummaryTask, "test", map[string]string{"test": `{"human_summaries":["a"],"machine_summaries":["b","c"],"relevance":[1.5,2.5]}`}, nil},
		{"followir", FollowIRTask, "", with(map[string]string{
			"instruction": `{"query-id":"7-og","instruction":"all"}` + "\n" + `{"query-id":"7-changed","instruction":"but c"}`, "qrel_diff": `{"query-id":"7","corpus-ids":["d1"]}`,
		}), map[string]string{"queries": "queries/queries-00000-of-00001", "instruction": "instruction/instruction-00000-of-00001"}},
		{
			"bright", BrightTask, "",
			map[string]string{
				"documents/aops": `{"id":"d1","content":"a"}` + "\n" + `{"id":"d2","content":"b"}`,
				"examples/aops":  `{"id":"1","query":"q","gold_ids":["d1"],"excluded_ids":["d2"]}` + "\n" + `{"id":"2","query":"r","gold_ids":["d2"],"excluded_ids":["N/A"]}`,
			},
			map[string]string{"documents/aops": "documents/aops-00000-of-00001", "examples/aops": "examples/aops-00000-of-00001"},
		},
		{"longembed", LongEmbedTask, "", map[string]string{
			"corpus": `{"doc_id":"d","text":"a b c"}`, "queries": `{"qid":"q","text":"a"}`, "qrels": `{"qid":"q","doc_id":"d"}`,
		}, nil},
		{"beir", BEIRTask, "", map[string]string{"corpus": corpusText, "queries": queriesText, "qrels/test": judgmentRows(qrelsText)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := func(write func(dir, name, rows string), end string) string {
				dir := filepath.Join(t.TempDir(), "suite")
				for name, rows := range c.files {
					write(dir, name, rows)
				}
				path := filepath.Join(dir, c.path)
				if c.path != "" {
					path += end
				}
				suites, err := OpenSuites(SuiteConfig{Task: c.task, Path: path, Name: "suite", MaxLength: 16, Instruction: "find"}, pieces{}, t.TempDir(), quiet)
				if err != nil {
					t.Fatal(err)
				}
				var seen []any
				for _, s := range suites {
					defer s.Close()
					seen = append(seen, s.Sheet(), s.Truncated())
					for slot := range s.Header().Slots {
						text, err := s.Text(slot)
						if err != nil {
							t.Fatal(err)
						}
						seen = append(seen, text)
					}
				}
				out, err := json.Marshal(seen)
				if err != nil {
					t.Fatal(err)
				}
				return string(out)
			}
			want := read(func(dir, name, rows string) {
				path := filepath.Join(dir, name+".jsonl")
				err := os.MkdirAll(filepath.Dir(path), 0o755)
				if err == nil && strings.HasPrefix(name, "qrels/") {
					path, rows = filepath.Join(dir, "qrels", "test.tsv"), qrelsText
				}
				if err == nil {
					err = os.WriteFile(path, []byte(rows), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}, ".jsonl")
			for _, o := range []parquettest.Options{{}, {Codec: "snappy", Dictionary: true, Group: 1}, {Codec: "zstd"}} {
				for _, hub := range []bool{false, true} {
					if hub && c.hub == nil {
						continue
					}
					got := read(func(dir, name, rows string) {
						if other := c.hub[name]; hub && other != "" {
							name = other
						}
						parquettest.Write(t, filepath.Join(dir, name+".parquet"), rows, o)
					}, ".parquet")
					if got != want {
						t.Errorf("from Parquet %+v (as on the Hub %t) the suite is\n%s\nwant\n%s", o, hub, got, want)
					}
				}
			}
		})
	}
}
