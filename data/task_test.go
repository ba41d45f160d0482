package data

import (
	"bytes"
	"compress/gzip"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// folder writes files; a name that ends in .gz is compressed.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		content := []byte(text)
		if strings.HasSuffix(name, ".gz") {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			z.Write(content)
			z.Close()
			content = b.Bytes()
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const sts = `{"sentence1":"a b","sentence2":"c","score":2.5}` + "\n" + `{"sentence1":"d","sentence2":"e f","score":"5"}` + "\n"

func TestOpenSuites(t *testing.T) {
	dir := folder(t, map[string]string{
		"sts.jsonl":                   sts,
		"pairs.jsonl.gz":              `{"sent1":["a","b c"],"sent2":["d","e"],"labels":[0,1]}`,
		"intents/train.jsonl":         `{"text":"a b","label":"x"}` + "\n" + `{"text":"c","label":"y"}` + "\n" + `{"text":"d","label":"x"}`,
		"intents/test.jsonl.gz":       `{"text":"e","label":"y"}`,
		"old.jsonl":                   `{"sentences":["a","b","c"],"labels":["x","y","x"]}` + "\n" + `{"sentences":["d","e"],"labels":[1,2]}`,
		"new.jsonl":                   `{"sentences":"a","labels":["x","x1"]}` + "\n" + `{"sentences":"b","labels":["y","y2"]}`,
		"rerank.jsonl":                `{"query":"q w","positive":["a"],"negative":["b","c"]}` + "\n" + `{"query":"r","positive":[],"negative":["b"]}` + "\n" + `{"query":["s","t"],"positive":["u"],"negative":["v"]}`,
		"again/corpus.jsonl":          `{"_id":"d1","text":"a"}` + "\n" + `{"_id":"d2","text":"b"}`,
		"again/queries.jsonl":         `{"_id":"7","text":"q"}` + "\n" + `{"_id":"8","text":"not judged"}`,
		"again/qrels.jsonl":           `{"query-id":"7","corpus-id":"d1","score":1}`,
		"again/top_ranked.jsonl":      `{"query-id":"7","corpus-ids":["d2","d1"]}`,
		"bitext.jsonl":                `{"sentence1":"a","sentence2":"b"}`,
		"sum.jsonl":                   `{"human_summaries":["a"],"machine_summaries":["b","c"],"relevance":[1,2.5]}`,
		"bright/documents/aops.jsonl": `{"id":"d1","content":"a"}` + "\n" + `{"id":"d2","content":"b"}`,
		"bright/examples/aops.jsonl":  `{"id":"1","query":"q","gold_ids":["d1"],"excluded_ids":["d2"]}` + "\n" + `{"id":"2","query":"r","gold_ids":["d2"],"excluded_ids":["N/A"]}`,
		"bright/documents/pony.jsonl": `{"id":"p","content":"a"}`,
		"bright/examples/pony.jsonl":  `{"id":"1","query":"q","gold_ids":["p"],"excluded_ids":["N/A"]}`,
		"news/corpus.jsonl":           `{"_id":"d1","title":"A","text":"b"}` + "\n" + `{"_id":"d2","title":"","text":"c"}`,
		"news/queries.jsonl":          `{"_id":"7-og","text":"q"}` + "\n" + `{"_id":"7-changed","text":"q"}`,
		"news/instruction.jsonl":      `{"query-id":"7-og","instruction":"all"}` + "\n" + `{"query-id":"7-changed","instruction":"but c"}`,
		"news/default.jsonl":          `{"query-id":"7-og","corpus-id":"d1","score":1}` + "\n" + `{"query-id":"7-changed","corpus-id":"d1","score":0}`,
		"news/qrel_diff.jsonl":        `{"query-id":"7","corpus-ids":["d1"]}`,
		"news/top_ranked.jsonl":       `{"query-id":"7-og","corpus-ids":["d1","d2"]}` + "\n" + `{"query-id":"7-changed","corpus-ids":["d1","d2"]}`,
		"long/qmsum/corpus.jsonl":     `{"doc_id":"d","text":"a b c"}`,
		"long/qmsum/queries.jsonl":    `{"qid":"q","text":"a"}`,
		"long/qmsum/qrels.jsonl":      `{"qid":"q","doc_id":"d"}`,
		"beir/corpus.jsonl":           corpusText,
		"beir/queries.jsonl":          queriesText,
		"beir/qrels/test.tsv":         qrelsText,
	})
	for _, c := range []struct {
		spec  string
		names string
		slots []int
		check func(s Sheet) bool
	}{
		{"sts:sts.jsonl", "sts", []int{4}, func(s Sheet) bool { return s.Kind == STSTask && slices.Equal(s.Gold, []float64{2.5, 5}) }},
		{"pairs:pairs.jsonl.gz", "pairs", []int{4}, func(s Sheet) bool { return s.Kind == PairsTask && slices.Equal(s.Gold, []float64{0, 1}) }},
		{"bitext:bitext.jsonl", "bitext", []int{2}, func(s Sheet) bool { return s.Kind == BitextTask }},
		{"classification:intents", "intents", []int{4}, func(s Sheet) bool {
			return s.Kind == ClassificationTask && s.Train == 3 && strings.Join(s.Labels[0], "") == "xyxy"
		}},
		{"clustering:old.jsonl", "old", []int{5}, func(s Sheet) bool {
			return slices.Equal(s.Ends, []int{3, 5}) && strings.Join(s.Labels[0], "") == "xyx12"
		}},
		{"clustering:new.jsonl", "new", []int{2}, func(s Sheet) bool { return s.Ends == nil && strings.Join(s.Labels[1], " ") == "x1 y2" }},
		{"rerank:rerank.jsonl", "rerank", []int{3 + 7}, func(s Sheet) bool {
			return strings.Join(s.Queries, " ") == "q000000 q000001 q000002" && len(s.Documents) == 7 && slices.Equal(s.Pools["q000000"], []string{"apositive_0_00000", "negative_0_00000", "negative_0_00001"}) &&
				s.Qrels["q000002"]["apositive_2_00000"] == 1 && s.Main == "map"
		}},
		{"rerank:again", "again", []int{3}, func(s Sheet) bool {
			return slices.Equal(s.Pools["7"], []string{"d2", "d1"}) && s.Main == "map" && s.Qrels["7"]["d1"] == 1
		}},
		{"summarization:sum.jsonl", "sum", []int{3}, func(s Sheet) bool { return slices.Equal(s.Summaries[0].Machine, []int32{1, 2}) }},
		{"bright:bright", "pony aops", []int{2, 4}, func(s Sheet) bool {
			return s.Name != "aops" || slices.Equal(s.Excluded["1"], []string{"d2"}) && len(s.Excluded) == 1
		}},
		{"followir:news", "news", []int{4}, func(s Sheet) bool {
			return slices.Equal(s.Changed["7"], []string{"d1"}) && len(s.Pools) == 2 && s.Main == "p-mrr"
		}},
		{"longembed:long", "qmsum", []int{2}, func(s Sheet) bool { return s.Main == "ndcg@10" && s.Group == LongEmbedTask }},
		{"longembed:passkey", "passkey-256 passkey-512", []int{150, 150}, func(s Sheet) bool { return s.Main == "ndcg@1" && len(s.Qrels) == 50 }},
		{"beir:beir", "beir", []int{5}, func(s Sheet) bool { return s.Kind == "" }},
		{"beir", "beir", []int{5}, func(s Sheet) bool { return s.Kind == "" }},
	} {
		t.Run(c.spec, func(t *testing.T) {
			task, path, err := ParseSuite(c.spec)
			if err != nil {
				t.Fatal(err)
			}
			if path != Passkey {
				path = filepath.Join(dir, path)
			}
			config := SuiteConfig{Task: task, Path: path, MaxLength: 1000, Instruction: "find", Lengths: []int{256, 512}}
			suites, err := OpenSuites(config, pieces{}, t.TempDir(), quiet)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for i, s := range suites {
				defer s.Close()
				names = append(names, s.Name)
				h := s.Header()
				if i >= len(c.slots) || h.Slots != c.slots[i] {
					t.Errorf("suite %s has %d texts, want %v", s.Name, h.Slots, c.slots)
				}
				if !c.check(s.Sheet()) {
					t.Errorf("Sheet of %s = %+v", s.Name, s.Sheet())
				}
				checkShards(t, s)
			}
			if got := strings.Join(names, " "); got != c.names {
				t.Errorf("OpenSuites(%s) = %s, want %s", c.spec, got, c.names)
			}
			again, err := OpenSuites(config, pieces{}, t.TempDir(), quiet)
			if err != nil || again[0].Digest() != suites[0].Digest() {
				t.Errorf("digest of the same suite differs (%v)", err)
			}
			config.Instruction, config.Document = "seek", "keep"
			if other, err := OpenSuites(config, pieces{}, t.TempDir(), quiet); err != nil || other[0].Digest() == suites[0].Digest() {
				t.Errorf("digest under another instruction is the same (%v)", err)
			}
		})
	}
}

// checkShards reads every text of a suite from its shards.
func checkShards(t *testing.T, s *Suite) {
	t.Helper()
	seen := make([]bool, s.Header().Slots)
	for i := range s.Shards() {
		shard, err := s.Shard(i)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range shard.Texts {
			text, err := s.Text(int(x.Slot))
			if err != nil {
				t.Fatal(err)
			}
			if text == "" {
				text = " "
			}
			want := pieces{}.Encode(nil, text)
			if x.Prompt > 0 {
				want = pieces{}.Encode(nil, "find: "+text)
			}
			if !slices.Equal(x.Tokens, want) {
				t.Fatalf("tokens of slot %d of %s are not those of %q", x.Slot, s.Name, text)
			}
			seen[x.Slot] = true
		}
	}
	if slices.Contains(seen, false) {
		t.Errorf("some texts of %s are in no shard", s.Name)
	}
}

// Queries are cut at a length of their own.
func TestQueryLength(t *testing.T) {
	dir := suiteDir(t, corpusText, queriesText, qrelsText)
	s, err := OpenSuite(SuiteConfig{Path: dir, MaxLength: 16, MaxQuery: 1}, words{}, t.TempDir(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.Truncated(); got != 1 { // "which first"
		t.Errorf("Truncated() = %d, want 1", got)
	}
	for i := range s.Shards() {
		shard, err := s.Shard(i)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range shard.Texts {
			if x.Slot < 2 && len(x.Tokens) != 1 {
				t.Errorf("query %d has %d tokens, want 1", x.Slot, len(x.Tokens))
			}
		}
	}
}

func TestOpenSuitesRefuses(t *testing.T) {
	dir := folder(t, map[string]string{
		"sts.jsonl":              `{"sentence1":"a","sentence2":"b"}`,
		"nan.jsonl":              `{"sentence1":"a","sentence2":"b","score":"high"}`,
		"same.jsonl":             `{"sentence1":"a","sentence2":"b","label":1}`,
		"label.jsonl":            `{"sentence1":"a","sentence2":"b","label":2}`,
		"lists.jsonl":            `{"sent1":["a","b"],"sent2":["c"],"labels":[1,0]}`,
		"intents/train.jsonl":    `{"text":"a","label":"x"}` + "\n" + `{"text":"b","label":"y"}`,
		"intents/test.jsonl":     `{"text":"a","label":"z"}`,
		"one/train.jsonl":        `{"text":"a","label":"x"}`,
		"one/test.jsonl":         `{"text":"a","label":"x"}`,
		"half/train.jsonl":       `{"text":"a","label":"x"}`,
		"c.jsonl":                `{"sentences":["a"],"labels":["x","y"]}`,
		"d.jsonl":                `{"sentences":"a","labels":"x"}`,
		"sum.jsonl":              `{"human_summaries":["a"],"machine_summaries":["b"],"relevance":[]}`,
		"bright/documents.jsonl": `{"id":"d1","content":"a"}`,
		"bright/examples.jsonl":  `{"id":"1","query":"q","gold_ids":["d9"],"excluded_ids":[]}`,
		"twice/documents.jsonl":  `{"id":"d1","content":"a"}` + "\n" + `{"id":"d1","content":"b"}`,
		"news/corpus.jsonl":      `{"_id":"d1","text":"b"}`,

		"lone/corpus.jsonl":      `{"_id":"d1","text":"b"}`,
		"lone/queries.jsonl":     `{"_id":"7-og","text":"q"}`,
		"lone/instruction.jsonl": `{"query-id":"7-og","instruction":"all"}`,
		"lone/qrels/test.tsv":    "query-id\tcorpus-id\tscore\n7-og\td1\t1\n",
		"lone/top_ranked.jsonl":  `{"query-id":"7-og","corpus-ids":["d1"]}`,
		"lone/qrel_diff.jsonl":   `{"query-id":"7","corpus-ids":["d1"]}`,
	})
	for _, c := range []struct{ spec, want string }{
		{"sts:sts.jsonl", `sts.jsonl:1: key "score": missing`},
		{"sts:nan.jsonl", `nan.jsonl:1: key "score": found "high"`},
		{"sts:none.jsonl", "none.jsonl: no such file"},
		{"pairs:same.jsonl", "1 pairs are alike and 0 are not"},
		{"pairs:label.jsonl", "label 2; 0 and 1 are allowed"},
		{"pairs:lists.jsonl", "found 1 texts for 2"},
		{"classification:intents", `the label "z", which no training text has`},
		{"classification:one", "two are needed at least"},
		{"classification:half", "test"},
		{"clustering:c.jsonl", "found 2 labels for 1 texts"},
		{"clustering:d.jsonl", "two are needed at least"},
		{"summarization:sum.jsonl", "found 1 of people, 1 of machines and 0 scores"},
		{"bright:bright", "no judged document"},
		{"bright:twice", `twice/documents.jsonl:2: the document "d1" occurs twice`},
		{"followir:news", "no judgments: neither qrels"},
		{"followir:lone", "no query of qrel_diff is there, and judged, both as QUERY-og and as QUERY-changed"},
		{"longembed:nowhere", "nowhere: no such file"},
		{"stz:sts.jsonl", `did you mean "sts:sts.jsonl"?`},
		{"sts:", "nothing follows the colon"},
	} {
		t.Run(c.spec, func(t *testing.T) {
			task, path, err := ParseSuite(c.spec)
			if err == nil {
				_, err = OpenSuites(SuiteConfig{Task: task, Path: filepath.Join(dir, path), MaxLength: 16}, words{}, t.TempDir(), quiet)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("OpenSuites = %v, want %q", err, c.want)
			}
		})
	}
}

// What cannot be found is said once, and counts.
func TestSuiteWarns(t *testing.T) {
	dir := folder(t, map[string]string{
		"documents.jsonl": `{"id":"d1","content":"a"}` + "\n" + `{"id":"d2","content":" "}`,
		"examples.jsonl": `{"id":"1","query":"q","gold_ids":["d1","d8"],"excluded_ids":["d1"]}` + "\n" +
			`{"id":"2","query":"r","gold_ids":["d2"],"excluded_ids":["N/A"]}`,
	})
	var log bytes.Buffer
	suites, err := OpenSuites(SuiteConfig{Task: BrightTask, Path: dir, MaxLength: 16}, words{}, t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer suites[0].Close()
	sheet := suites[0].Sheet()
	for _, part := range []string{"d8", "every relevant document of these queries is excluded", "one blank"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log does not have %q: %s", part, log.String())
		}
	}
	if !strings.Contains(sheet.Rule(), "removed before the cut") {
		t.Errorf("Rule() = %q", sheet.Rule())
	}
	log.Reset()
	kept, err := OpenSuites(SuiteConfig{Task: BrightTask, Path: dir, MaxLength: 16, Exclusion: KeepExcluded}, words{}, t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer kept[0].Close()
	if s := kept[0].Sheet(); !strings.HasSuffix(s.Name, "-excluded-keep") || !strings.Contains(s.Rule(), "first BRIGHT") || strings.Contains(log.String(), "every relevant") {
		t.Errorf("a suite that keeps what is excluded is %s (%s) and warns %s", s.Name, s.Rule(), log.String())
	}
}

// Texts of labels that nobody can predict, documents that cannot be ranked and changes of half a query are each told.
func TestTasksWarn(t *testing.T) {
	dir := folder(t, map[string]string{
		"intents/train.jsonl":    `{"text":"a","label":"x"}` + "\n" + `{"text":"b","label":"y"}`,
		"intents/test.jsonl":     `{"text":"a","label":"z"}` + "\n" + `{"text":"b","label":"y"}`,
		"news/corpus.jsonl":      `{"_id":"d1","text":"b"}`,
		"news/queries.jsonl":     `{"_id":"7-og","text":"q"}` + "\n" + `{"_id":"7-changed","text":"q"}` + "\n" + `{"_id":"9-og","text":"r"}`,
		"news/instruction.jsonl": `{"query-id":"7-og","instruction":"all"}`,
		"news/qrels/test.tsv":    "query-id\tcorpus-id\tscore\n7-og\td1\t1\n7-changed\td1\t0\n9-og\td1\t1\n",
		"news/top_ranked.jsonl":  `{"query-id":"7-og","corpus-ids":["d1","d5"]}` + "\n" + `{"query-id":"7-changed","corpus-ids":["d1"]}`,
		"news/qrel_diff.jsonl":   `{"query-id":"7","corpus-ids":["d1"]}` + "\n" + `{"query-id":"9","corpus-ids":["d1"]}`,
	})
	for _, c := range []struct {
		task, path string
		want       []string
	}{
		{ClassificationTask, "intents", []string{"labels that no training text has", "first=[z]"}},
		{FollowIRTask, "news", []string{"p-MRR leaves them out", "first=[9]", "no documents to rank", "first=[9-og]", "are not in the corpus", "first=[d5]", "no instruction of their own"}},
	} {
		var log bytes.Buffer
		suites, err := OpenSuites(SuiteConfig{Task: c.task, Path: filepath.Join(dir, c.path), MaxLength: 16}, words{}, t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		suites[0].Close()
		for _, part := range c.want {
			if !strings.Contains(log.String(), part) {
				t.Errorf("the log of %s does not have %q: %s", c.path, part, log.String())
			}
		}
		if c.task == FollowIRTask && len(suites[0].Sheet().Changed) != 1 {
			t.Errorf("Changed = %v, want query 7 alone", suites[0].Sheet().Changed)
		}
	}
}
