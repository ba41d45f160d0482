package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/trainer/export"
)

// execute runs one command and returns what it printed.
func execute(t *testing.T, cmd *cobra.Command, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

const embedTexts = `"thing 3 of the shop"
{"id": 7, "text": "a text that is so long that sixteen tokens are not enough for all of it, whatever the vocabulary has learned"}
{"_id": "x", "title": "item", "text": "described by these words"}
`

// TestExportAndEmbed: what is exported embeds as the checkpoint does, and says so.
func TestExportAndEmbed(t *testing.T) {
	folder := testCheckpoints(t, testRun(t, testLoRA))
	want, said, err := execute(t, embedCommand(), embedTexts, folder, "--prompt-name", "query")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(want, "\n"); lines != 3 || !strings.Contains(want, `{"id":7,"embedding":[`) || !strings.Contains(want, `{"id":"x",`) {
		t.Errorf("%d vectors: %.200s", lines, want)
	}
	wants(t, "what embed says", said, "bidirectional attention", "mean pooling", `after "find it: "`, "3 texts", "cut")
	for _, format := range export.Formats {
		out := filepath.Join(t.TempDir(), format)
		printed, _, err := execute(t, exportCommand(), "", folder, "--format", format, "--out", out)
		if err != nil {
			t.Fatal(err)
		}
		wants(t, "what export says", printed, "README.md", "self-check: 32 texts")
		got, _, err := execute(t, embedCommand(), embedTexts, out, "--prompt-name", "query")
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s embeds other vectors than the checkpoint, merged both", format)
		}
	}
	npy := filepath.Join(t.TempDir(), "v.npy")
	if _, _, err := execute(t, embedCommand(), embedTexts, folder, "--out", npy); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(npy); err != nil || !bytes.HasPrefix(text, []byte("\x93NUMPY")) {
		t.Errorf("%s begins with %.10q, %v", npy, text, err)
	}
	if _, said, err := execute(t, embedCommand(), embedTexts, folder, "--out", npy, "--resume"); err != nil || !strings.Contains(said, "complete already") {
		t.Errorf("--resume of a complete file: %s, %v", said, err)
	}
}

// TestExportAndEmbedFaults: errors name what is wrong and what is allowed.
func TestExportAndEmbedFaults(t *testing.T) {
	folder := testCheckpoints(t, testRun(t, testFull))
	for _, c := range []struct {
		cmd  *cobra.Command
		args []string
		want []string
	}{
		{exportCommand(), []string{folder, "--format", "onnx"}, []string{`"onnx"`, "peft, sentence-transformers, huggingface"}},
		{exportCommand(), []string{folder, "--format", "peft", "--out", t.TempDir() + "/x"}, []string{"no adapter"}},
		{exportCommand(), []string{folder, "--shard-size", "many"}, []string{"--shard-size", "5GB"}},
		{exportCommand(), []string{t.TempDir()}, []string{"no checkpoints"}},
		{embedCommand(), []string{folder, "--prompt-name", "passage"}, []string{`"passage"`, "query"}},
		{embedCommand(), []string{folder, "--format", "npy"}, []string{"npy"}},
		{embedCommand(), []string{folder, "--pooling", "median"}, []string{`"median"`, "last_token"}},
		{embedCommand(), []string{folder, "absent.jsonl"}, []string{"absent.jsonl"}},
		{embedCommand(), []string{folder}, []string{"stdin:1", "text"}},
	} {
		_, _, err := execute(t, c.cmd, "5\n", c.args...)
		if err == nil {
			t.Errorf("%s %v: no error", c.cmd.Name(), c.args[1:])
			continue
		}
		wants(t, "the error", err.Error(), c.want...)
	}
}

func TestExportFolder(t *testing.T) {
	for path, want := range map[string]string{
		"runs/debian":                           "exports/debian-peft",
		"runs/debian/":                          "exports/debian-peft",
		"runs/debian/checkpoints":               "exports/debian-peft",
		"runs/debian/checkpoints/step-00000010": "exports/debian-step-00000010-peft",
		".":                                     "exports/model-peft",
	} {
		if got := exportFolder(path, "peft"); got != want {
			t.Errorf("exportFolder(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"5GB": 5e9, "500 mb": 5e8, "12": 12, "1kb": 1000, "": 0, "GB": 0, "-1": 0, "5TB": 0, "1.5GB": 0, "99999999999999GB": 0} {
		got, err := parseSize(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("parseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
}
