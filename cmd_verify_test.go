package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

func TestVerify(t *testing.T) {
	for name, lines := range map[string]string{"lora": testLoRA, "full": testFull} {
		t.Run(name, func(t *testing.T) {
			store := testCheckpoints(t, testRun(t, lines))
			newest := filepath.Join(store, checkpoints.Name(2))
			code, out, errs := command(t, "verify", newest)
			if code != 0 || strings.Contains(out, "FAILED") {
				t.Fatalf("verify = %d\n%s%s", code, out, errs)
			}
			wants(t, "verify", out, "run small, step 2", "the digest of the parameters is the committed one",
				"the digest of the tokenizer is the committed one", "the identity of the run is the committed one")
			code, out, _ = command(t, "verify", filepath.Dir(store)) // the run's folder
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if code != 0 || len(lines) != 2 || !strings.Contains(lines[0], checkpoints.Name(2)) || !strings.Contains(lines[1], checkpoints.Name(1)) {
				t.Errorf("verify of a run = %d\n%s\nwant two lines, newest first", code, out)
			}

			damage(t, filepath.Join(newest, checkpoints.OptimizerName))
			code, out, _ = command(t, "verify", store)
			if code != 1 || !strings.HasPrefix(out, "FAILED") || !strings.Contains(out, "\nok ") {
				t.Errorf("verify of a damaged series = %d\n%s\nwant exit 1, the newest FAILED and the other ok", code, out)
			}
			wants(t, "verify", out, checkpoints.OptimizerName+" matches the manifest", "damaged")
			code, out, _ = command(t, "verify", "--json", store)
			var got []verified
			if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || len(got) != 2 || got[0].OK || !got[1].OK || got[1].Step != 1 {
				t.Errorf("verify --json = %d, %v\n%s", code, err, out)
			}
		})
	}
	if code, _, errs := command(t, "verify", t.TempDir()); code != 1 || !strings.Contains(errs, "nor a folder of checkpoints") {
		t.Errorf("verify of an empty folder = %d, %s", code, errs)
	}
}
