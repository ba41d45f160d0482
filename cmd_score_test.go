package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scoreFiles are a run and judgments, and what trec_eval prints for them.
func scoreFiles(t *testing.T) (run, qrels, expected string) {
	t.Helper()
	dir := filepath.Join("trainer", "evaluate", "testdata", "trec_eval")
	text, err := os.ReadFile(filepath.Join(dir, "9.0.8-q-all.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "run.txt"), filepath.Join(dir, "qrels.txt"), string(text)
}

func TestScoreCommand(t *testing.T) {
	run, qrels, want := scoreFiles(t)
	if code, out, errs := command(t, "score", "-q", "-m", "all_trec", qrels, run); code != 0 || out != want {
		t.Errorf("score QRELS RUN = %d, %q, other output than trec_eval", code, errs)
	}
	if code, out, errs := command(t, "score", "--run", run, "--qrels", qrels, "-m", "map", "-m", "P.5", "-n", "-q"); code != 0 || strings.Contains(out, "\tall\t") || strings.Count(out, "\n") != 8 {
		t.Errorf("score -n -q = %d, %q, %q, want two measures of four queries", code, out, errs)
	}
	// Through every form, the scores are the same.
	dir := t.TempDir()
	_, plain, _ := command(t, "score", "--run", run, "--qrels", qrels, "-m", "set", "-m", "ndcg_cut")
	plain = strings.ReplaceAll(plain, "\texample\n", "\trun\n") // other forms have no tag: it is the file's name
	for _, ending := range []string{".json", ".tsv", ".json.gz"} {
		r, q := filepath.Join(dir, "run"+ending), filepath.Join(dir, "qrels"+ending)
		if code, _, errs := command(t, "score", "--run", run, "--qrels", qrels, "--write-run", r, "--write-qrels", q); code != 0 {
			t.Fatalf("score --write-run %s = %d, %s", r, code, errs)
		}
		if code, out, errs := command(t, "score", "--run", r, "--qrels", q, "-m", "set", "-m", "ndcg_cut"); code != 0 || out != plain {
			t.Errorf("score of %s = %d, %q, %q, want %q", ending, code, out, errs, plain)
		}
	}
}

func TestScoreCommandErrors(t *testing.T) {
	run, qrels, _ := scoreFiles(t)
	other := filepath.Join(t.TempDir(), "other.txt")
	if err := os.WriteFile(other, []byte("x Q0 a 1 1 t\nx Q0 b 2 high t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	strange := filepath.Join(t.TempDir(), "strange.txt")
	if err := os.WriteFile(strange, []byte("x Q0 a 1 1 t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"score"}, "--run is missing"},
		{[]string{"score", "--run", run}, "--qrels is missing"},
		{[]string{"score", run}, "QRELS and RUN"},
		{[]string{"score", qrels, run, "-m", "ndgc"}, `did you mean "ndcg"`},
		{[]string{"score", qrels, run, "--scores", "half"}, "float32 or float64"},
		{[]string{"score", qrels, run, "-l", "0"}, "--level 0"},
		{[]string{"score", qrels, other}, "other.txt:2: found the score \"high\""},
		{[]string{"score", qrels, strange}, "none of its 1 query is judged"},
		{[]string{"score", qrels, "absent.txt"}, "absent.txt"},
	} {
		if code, _, errs := command(t, c.args...); code != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("counterpoint %v = %d, %q, want %q", c.args, code, errs, c.want)
		}
	}
}
