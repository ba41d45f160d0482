package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
)

// A finished run's ledger is proven, of the folder as it is and while nothing in it changes; other settings are refused.
func TestVerifyLedger(t *testing.T) {
	file := testRun(t, testLoRA)
	dir := filepath.Join(filepath.Dir(file), "run")
	if code, out, errs := command(t, "train", file, "--set", "cluster.workers=2", "--set", "train.steps=6", "--set", "checkpoint.every=2"); code != 0 {
		t.Fatalf("train = %d\n%s%s", code, out, errs)
	}
	before := treeDigest(t, filepath.Join(dir, "log"))
	code, out, errs := command(t, "verify", "ledger", dir)
	if code != 0 {
		t.Fatalf("verify ledger = %d\n%s%s", code, out, errs)
	}
	wants(t, "verify ledger", out, "6 of 6 committed", "96 in", "6 of 6 compared", "pairs ", "proven: each sample")
	if after := treeDigest(t, filepath.Join(dir, "log")); after != before {
		t.Error("verify ledger changed the log")
	}
	code, out, _ = command(t, "verify", "ledger", "--json", dir)
	var got []ledgerResult
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || len(got) != 1 || got[0].Proof.Samples != 96 || got[0].Proof.Sources[0].Epochs != 2 {
		t.Errorf("verify ledger --json = %d, %v\n%s\nwant 96 samples, which are 2 epochs of 40 rows and 16 of the next", code, err, out)
	}
	if code, _, errs := command(t, "verify", "ledger", dir, "--set", "train.seed=5"); code != 1 || !strings.Contains(errs, "none that its run file is of") {
		t.Errorf("with another seed = %d, %s", code, errs)
	}
	// A row that is not the one of the run: the data digest differs.
	pairs := filepath.Join(filepath.Dir(file), "pairs.jsonl")
	text, err := os.ReadFile(pairs)
	if err != nil {
		t.Fatal(err)
	}
	write(t, pairs, strings.Replace(string(text), "item 3 of", "item 4 of", 1))
	if code, _, errs := command(t, "verify", "ledger", dir); code != 1 || !strings.Contains(errs, "none that its run file is of") {
		t.Errorf("with another row = %d, %s", code, errs)
	}
	write(t, pairs, string(text))
	if code, _, errs := command(t, "verify", "ledger", t.TempDir()); code != 1 || !strings.Contains(errs, "holds no log") {
		t.Errorf("of an empty folder = %d, %s", code, errs)
	}
}

// One flipped bit of an entry in the log's file is found by name, or the log ends before it and the steps after it are
// missing: never is another history proven.
func TestVerifyLedgerOfAFlippedLog(t *testing.T) {
	file := testRun(t, testLoRA)
	dir := filepath.Join(filepath.Dir(file), "run")
	if code, out, errs := command(t, "train", file); code != 0 {
		t.Fatalf("train = %d\n%s%s", code, out, errs)
	}
	past, err := consensus.OpenPast(dir)
	if err != nil {
		t.Fatal(err)
	}
	whole := past.Last
	if err := past.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*.wal"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	used := len(strings.TrimRight(string(text), "\x00"))
	s := seed(t)
	random := rand.New(rand.NewPCG(s, 11))
	named, cut := 0, 0
	for range 40 {
		bit := random.IntN(8 * used)
		damaged := append([]byte(nil), text...)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(segments[0], damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		code, out, errs := command(t, "verify", "ledger", "--json", dir)
		var got []ledgerResult
		switch {
		case code == 1 && (errs != "" || strings.Contains(out, `"violation"`)):
			named++
		case code == 0 && json.Unmarshal([]byte(out), &got) == nil && len(got) == 1 && got[0].Last < whole:
			cut++ // as after a torn write
		case code == 0 && len(got) == 1 && got[0].Last == whole && got[0].Proof.Steps == 4:
			// A bit of Raft's own, not of an entry: term, time of appending, or padding. The history is the same.
		default:
			t.Errorf("seed %d: bit %d of %d flipped: exit %d\n%s%s", s, bit, 8*used, code, out, errs)
		}
	}
	t.Logf("seed %d: of 40 flips %d were named, %d cut the log", s, named, cut)
	if named == 0 {
		t.Error("no flip was named: this test sees nothing")
	}
}

// treeDigest is a digest of the files of a folder.
func treeDigest(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(names), err)
	}
	var all strings.Builder
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(n)
		all.Write(b)
	}
	return all.String()
}
