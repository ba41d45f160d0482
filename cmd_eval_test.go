package main

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// evalJSON runs eval --json.
func evalJSON(t *testing.T, args ...string) (name string, first evalResult) {
	t.Helper()
	code, out, errs := command(t, append([]string{"eval", "--json", "--threads", "1"}, args...)...)
	if code != 0 {
		t.Fatalf("eval %v = %d: %s", args, code, errs)
	}
	var got struct {
		Name   string
		Suites []evalResult
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("eval --json printed %s: %v", out, err)
	}
	return got.Name, got.Suites[0]
}

func TestEval(t *testing.T) {
	for name, lines := range map[string]string{"lora": testLoRA, "full": testFull, "language": testLM} {
		t.Run(name, func(t *testing.T) {
			file := testRun(t, lines)
			store := testCheckpoints(t, file)
			suite := filepath.Join(filepath.Dir(file), "dev")
			runFile := filepath.Join(t.TempDir(), "out.trec")
			code, out, errs := command(t, "eval", store, suite, "--run", runFile)
			if code != 0 {
				t.Fatalf("eval = %d: %s", code, errs)
			}
			wants(t, "eval", out, "small, step 2", "random vectors", "BM25 (k1 0.9, b 0.4)", "ndcg@10", `10 queries after "find it: "`, "40 documents as they are", "tokens/s", "longer than 16 tokens")
			if text, err := os.ReadFile(runFile); err != nil || strings.Count(string(text), "\n") != 10*40 {
				t.Errorf("run file has %d lines, %v, want %d", strings.Count(string(text), "\n"), err, 10*40)
			}
			// The same checkpoint by its own name, and by its run's folder, gives the same figures.
			dir := filepath.Join(store, checkpoints.Name(2))
			_, whole := evalJSON(t, store, suite)
			who, direct := evalJSON(t, dir, suite)
			if who != "small, step 2" || direct.Metrics["ndcg@10"] != whole.Metrics["ndcg@10"] || direct.BM25["ndcg@10"] < 0.9 || direct.Truncated == 0 {
				t.Errorf("eval of %s = %s, %+v, want the newest's %+v", dir, who, direct, whole)
			}
			// What the flags say shows.
			if _, plain := evalJSON(t, dir, suite, "--instruction", "", "--max-length", "64"); plain.Tokens == direct.Tokens || plain.Truncated != 0 {
				t.Errorf("eval without instruction at 64 tokens: %d tokens, %d cut; with: %d", plain.Tokens, plain.Truncated, direct.Tokens)
			}
			if code, _, errs := command(t, "eval", dir, suite, "--pooling", "max"); code != 1 || !strings.Contains(errs, "weighted_mean") {
				t.Errorf("eval --pooling max = %d, %s", code, errs)
			}
		})
	}
}

// An evaluation with the adapter differs from one of the model that it adapts, and the older checkpoint is used where
// the newest is damaged.
func TestEvalOfDamage(t *testing.T) {
	file := testRun(t, testLoRA)
	store := testCheckpoints(t, file)
	suite := filepath.Join(filepath.Dir(file), "dev")
	damage(t, filepath.Join(store, checkpoints.Name(2), checkpoints.AdapterName))
	code, out, errs := command(t, "eval", store, suite)
	if code != 0 || !strings.Contains(out, "small, step 1") || !strings.Contains(errs, checkpoints.Name(2)) {
		t.Errorf("eval of a series with a damaged newest = %d\n%s%s\nwant step 1 and a warning that names the other", code, out, errs)
	}
	if code, _, errs = command(t, "eval", filepath.Join(store, checkpoints.Name(2)), suite); code != 1 || !strings.Contains(errs, "damaged") {
		t.Errorf("eval of a damaged checkpoint = %d, %s", code, errs)
	}
	for path, want := range map[string]string{filepath.Dir(suite): "neither a model's folder", filepath.Join(suite, "nothing"): "no such file"} {
		if code, _, errs = command(t, "eval", path, suite); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("eval %s = %d, %s, want %q", path, code, errs, want)
		}
	}
}

// An adapter over a folder finds its base, notices another one, and takes one that has moved.
func TestEvalOfAdapter(t *testing.T) {
	base := testCheckpoints(t, testRun(t, testFull))
	file := testRun(t, "model: {path: "+base+", pooling: last_token, lora: {rank: 2, alpha: 4}}\nloss: {temperature: 0.05}\n")
	store := testCheckpoints(t, file)
	suite := filepath.Join(filepath.Dir(file), "dev")
	_, want := evalJSON(t, store, suite)
	if code, _, errs := command(t, "eval", store, suite); code != 0 || errs != "" {
		t.Errorf("eval of an adapter = %d, %s, want no warning", code, errs)
	}
	code, out, errs := command(t, "verify", filepath.Join(store, checkpoints.Name(1)))
	if code != 0 {
		t.Errorf("verify of an adapter = %d\n%s%s", code, out, errs)
	}
	wants(t, "verify", out, "the adapter's base "+filepath.Join(base, checkpoints.Name(2))+" is the one")

	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(filepath.Join(base, checkpoints.Name(2)), moved); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, "eval", store, suite); code != 1 || !strings.Contains(errs, "--base FOLDER") {
		t.Errorf("eval without the base = %d, %s, want advice", code, errs)
	}
	if _, got := evalJSON(t, store, suite, "--base", moved); got.Metrics["map"] != want.Metrics["map"] {
		t.Errorf("map with the moved base = %v, want %v", got.Metrics["map"], want.Metrics["map"])
	}
	code, _, errs = command(t, "eval", store, suite, "--base", filepath.Join(base, checkpoints.Name(1)))
	if code != 0 || !strings.Contains(errs, "differs from the one that the adapter was trained on") {
		t.Errorf("eval with another base = %d, %s, want a warning", code, errs)
	}
}

func damage(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-3] ^= 0x10
	write(t, path, string(text))
}

// What export makes of a checkpoint evaluates as the checkpoint: as a sentence-transformers folder, which knows the
// prompts, and as a plain one, which is told them.
func TestEvalOfExports(t *testing.T) {
	file := testRun(t, testFull)
	store := testCheckpoints(t, file)
	suite := filepath.Join(filepath.Dir(file), "dev")
	_, want := evalJSON(t, store, suite)
	for format, flags := range map[string][]string{
		"sentence-transformers": nil,
		"huggingface":           {"--instruction", "find it", "--max-length", "16", "--pooling", "last_token"},
	} {
		out := filepath.Join(t.TempDir(), format)
		if code, _, errs := command(t, "export", store, "--format", format, "--out", out); code != 0 {
			t.Fatalf("export as %s = %d: %s", format, code, errs)
		}
		name, got := evalJSON(t, append([]string{out, suite}, flags...)...)
		if name != format || got.Tokens != want.Tokens || got.Truncated != want.Truncated || math.Abs(got.Metrics["map"]-want.Metrics["map"]) > 1e-9 {
			t.Errorf("eval of %s, the checkpoint as %s = %+v, want %+v", name, format, got, want)
		}
	}
}

// A second evaluation of an unchanged model embeds nothing and gives the same figures; another limit of tokens does.
func TestEvalKeepsEmbeddings(t *testing.T) {
	t.Setenv("COUNTERPOINT_CACHE", t.TempDir())
	file := testRun(t, testLoRA)
	store := testCheckpoints(t, file)
	suite := filepath.Join(filepath.Dir(file), "dev")
	_, first := evalJSON(t, store, suite)
	_, second := evalJSON(t, store, suite)
	if first.Kept != 0 || second.Kept != 50 || !maps.Equal(first.Metrics, second.Metrics) {
		t.Errorf("eval twice: %d and %d of 50 embeddings were kept, metrics %v and %v", first.Kept, second.Kept, first.Metrics, second.Metrics)
	}
	for _, flags := range [][]string{{"--fresh"}, {"--max-length", "7"}, {"--pooling", "first_token"}, {"--attention", "causal"}} {
		if _, other := evalJSON(t, append([]string{store, suite}, flags...)...); other.Kept > 10 { // short texts are cut nowhere
			t.Errorf("eval %v: %d embeddings were taken from an evaluation without", flags, other.Kept)
		}
	}
	if _, old := evalJSON(t, filepath.Join(store, checkpoints.Name(1)), suite); old.Kept != 0 {
		t.Errorf("eval of another checkpoint: %d embeddings were taken", old.Kept)
	}
}

// Suites of several kinds in one evaluation: tables, the files of mteb, the page.
func TestEvalKinds(t *testing.T) {
	file := testRun(t, testFull)
	store := testCheckpoints(t, file)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "sts.jsonl"), `{"sentence1":"a red fox","sentence2":"a fox","score":4}`+"\n"+`{"sentence1":"a red fox","sentence2":"the sea","score":1}`+"\n"+`{"sentence1":"one","sentence2":"two three","score":2}`+"\n")
	page, results := filepath.Join(dir, "page.html"), filepath.Join(dir, "results")
	code, out, errs := command(t, "eval", store, filepath.Join(filepath.Dir(file), "dev"), "sts:"+filepath.Join(dir, "sts.jsonl"), "mteb:STSBenchmark:"+filepath.Join(dir, "sts.jsonl"),
		"longembed:passkey", "--lengths", "128,200", "--max-length", "256", "--report", page, "--results", results, "--model-name", "me/small", "--revision", "r1")
	if code != 0 {
		t.Fatalf("eval = %d: %s", code, errs)
	}
	wants(t, "eval", out, "cosine_spearman", "STSBenchmark", `after "Retrieve semantically similar text.: "`, "passkey-128", "passkey-200", "random vectors")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "page", string(text), "Semantic similarity", "Accuracy by length: passkey", "Main metric by suite", "LongEmbed")
	var task struct {
		TaskName string `json:"task_name"`
		Scores   map[string][]map[string]any
	}
	text, err = os.ReadFile(filepath.Join(results, "me__small", "r1", "STSBenchmark.json"))
	if err == nil {
		err = json.Unmarshal(text, &task)
	}
	if err != nil || task.TaskName != "STSBenchmark" || task.Scores["test"][0]["main_score"] != task.Scores["test"][0]["cosine_spearman"] || task.Scores["test"][0]["hf_subset"] != "default" {
		t.Errorf("STSBenchmark.json = %s, %v", text, err)
	}
	for _, c := range []struct {
		suite string
		want  string
	}{{"sst:x", "is no kind of task"}, {"mteb:SciFacts:x", `did you mean "SciFact"?`}, {"sts:" + dir, "a folder"}} {
		if code, _, errs := command(t, "eval", store, c.suite); code != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("eval %s = %d, %s, want %q", c.suite, code, errs, c.want)
		}
	}
}

func TestCompare(t *testing.T) {
	file := testRun(t, testFull)
	store := testCheckpoints(t, file)
	suite := filepath.Join(filepath.Dir(file), "dev")
	page := filepath.Join(t.TempDir(), "page.html")
	a, b := filepath.Join(store, checkpoints.Name(1)), filepath.Join(store, checkpoints.Name(2))
	code, out, errs := command(t, "compare", a, b, suite, "--report", page)
	if code != 0 {
		t.Fatalf("compare = %d: %s", code, errs)
	}
	wants(t, "compare", out, "A  small, step 1", "B  small, step 2", "95 % interval", "the queries whose ndcg@10 changed most", "not judged")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "page", string(text), "Differences", "the queries that changed most")
	code, out, errs = command(t, "compare", a, a, suite, "--json")
	var same struct{ Suites []compared }
	if err := json.Unmarshal([]byte(out), &same); code != 0 || err != nil {
		t.Fatalf("compare --json = %d, %s, %v", code, errs, err)
	}
	if c := same.Suites[0].Comparison; c.Wins+c.Losses != 0 || c.Difference != 0 || c.Low != 0 || c.High != 0 || c.Ties != 10 {
		t.Errorf("a model compared with itself = %+v, want ties only", c)
	}
}

// The prompts of a sentence-transformers folder: a document's may be called passage, a default one is for whoever has none.
func TestEvalPromptNames(t *testing.T) {
	file := testRun(t, testFull)
	suite := filepath.Join(filepath.Dir(file), "dev")
	out := filepath.Join(t.TempDir(), "model")
	if code, _, errs := command(t, "export", testCheckpoints(t, file), "--format", "sentence-transformers", "--out", out); code != 0 {
		t.Fatalf("export = %d: %s", code, errs)
	}
	for _, c := range []struct{ config, query, document string }{
		{`{"prompts": {"query": "q: ", "passage": "p: "}}`, "q: ", "p: "},
		{`{"prompts": {"query": "q: ", "corpus": "c: ", "passage": "p: ", "document": "d: "}}`, "q: ", "d: "},
		{`{"prompts": {"query": "q: ", "any": "a: "}, "default_prompt_name": "any"}`, "q: ", "a: "},
		{`{"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": "query"}`, "q: ", ""},
		{`{"prompts": {"any": "a: "}}`, "", ""},
	} {
		write(t, filepath.Join(out, "config_sentence_transformers.json"), c.config)
		if _, r := evalJSON(t, out, suite); r.Query != c.query || r.Document != c.document {
			t.Errorf("eval of a model with %s: queries after %q, documents after %q, want %q, %q", c.config, r.Query, r.Document, c.query, c.document)
		}
	}
}

// A model whose numbers are not finite is no result: the first text is named.
func TestEvalOfNaN(t *testing.T) {
	file := testRun(t, testFull)
	store := testCheckpoints(t, file)
	out := filepath.Join(t.TempDir(), "model")
	if code, _, errs := command(t, "export", store, "--format", "huggingface", "--out", out); code != 0 {
		t.Fatalf("export = %d: %s", code, errs)
	}
	path := filepath.Join(out, "model.safetensors")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 8 + int(binary.LittleEndian.Uint64(text)); i < len(text); i++ {
		text[i] = 0xff // NaN in every weight
	}
	write(t, path, string(text))
	code, table, errs := command(t, "eval", out, filepath.Join(filepath.Dir(file), "dev"))
	if code != 1 || !strings.Contains(errs, "suite dev: query q") || !strings.Contains(errs, "not finite") || strings.Contains(table, "ndcg") {
		t.Errorf("eval of a model of NaN = %d, %s%s, want an error that names a query", code, table, errs)
	}
}

// Another model behind the same link has none of the embeddings of the one before.
func TestEvalOfLink(t *testing.T) {
	t.Setenv("COUNTERPOINT_CACHE", t.TempDir())
	file := testRun(t, testFull)
	store := testCheckpoints(t, file)
	suite := filepath.Join(filepath.Dir(file), "dev")
	link := filepath.Join(t.TempDir(), "latest")
	var scores []map[string]float64
	for step := int64(1); step <= 2; step++ {
		os.Remove(link)
		if err := os.Symlink(filepath.Join(store, checkpoints.Name(step)), link); err != nil {
			t.Fatal(err)
		}
		_, r := evalJSON(t, link, suite)
		if r.Kept != 0 {
			t.Errorf("eval of step %d behind a link took %d embeddings of another model", step, r.Kept)
		}
		scores = append(scores, r.Metrics)
	}
	if maps.Equal(scores[0], scores[1]) {
		t.Errorf("two steps score alike: %v", scores[0])
	}
	if _, again := evalJSON(t, filepath.Join(store, checkpoints.Name(2)), suite); again.Kept != 50 || !maps.Equal(again.Metrics, scores[1]) {
		t.Errorf("eval of the folder itself took %d of 50 embeddings kept by way of the link", again.Kept)
	}
}

// An instruction is written by a template, and whose it is is said.
func TestEvalTemplate(t *testing.T) {
	file := testRun(t, testFull)
	store := testCheckpoints(t, file)
	suite := filepath.Join(filepath.Dir(file), "dev")
	for _, c := range []struct {
		flags    []string
		want, of string
	}{
		{nil, "find it: ", "model"},
		{[]string{"--instruction", "seek"}, "seek: ", "flag"},
		{[]string{"--instruction", "seek", "--template", `Instruct: {}\nQuery: `}, "Instruct: seek\nQuery: ", "flag"},
		{[]string{"--template", "<{}> "}, "find it: ", "model"}, // the model's own is as it is
		{[]string{"--instruction", "-"}, "", "flag"},
	} {
		_, r := evalJSON(t, append([]string{store, suite}, c.flags...)...)
		if r.Query != c.want || r.QueryOf != c.of || r.Document != "" || r.DocOf != "nobody" {
			t.Errorf("eval %q: queries after %q of %s, documents after %q of %s, want %q of %s and nothing of nobody", c.flags, r.Query, r.QueryOf, r.Document, r.DocOf, c.want, c.of)
		}
	}
	if _, r := evalJSON(t, store, "mteb:SciFact:"+suite, "--template", "<{}> "); r.Query != "<Given a scientific claim, retrieve documents that support or refute the claim> " || r.QueryOf != "task" {
		t.Errorf("eval of a task: queries after %q of %s", r.Query, r.QueryOf)
	}
	if code, _, errs := command(t, "eval", store, suite, "--template", "Query: "); code != 1 || !strings.Contains(errs, "{} is missing") {
		t.Errorf("eval with a template of nothing = %d, %s", code, errs)
	}
}
