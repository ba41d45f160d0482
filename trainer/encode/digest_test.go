package encode

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// What decides an embedding changes a folder's digest, by whatever links it is reached; what lies beside it does not.
func TestHashFolder(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(filepath.Join(dir, to), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	hash := func(name string) string {
		t.Helper()
		h := sha256.New()
		if err := hashFolder(h, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(h.Sum(nil))
	}
	put("blob", "weights of links")
	put("model/config.json", "{}")
	put("model/model.safetensors", "weights")
	put("model/tokenizer.json", "{}")
	put("module/config.json", `{"pooling": 1}`)
	link("blob", "model/more.safetensors")
	link("module", "model/1_Pooling")
	link("model", "latest")
	link("model", "model/circle")
	was := hash("model")
	if got := hash("latest"); got != was {
		t.Errorf("digest by a link = %s, of the folder itself %s", got, was)
	}
	for name, change := range map[string]func(){
		"weights":         func() { put("model/model.safetensors", "weightz") },
		"linked weights":  func() { put("blob", "other weights") },
		"settings":        func() { put("model/config.json", "{ }") },
		"linked module":   func() { put("module/config.json", `{"pooling": 2}`) },
		"another file":    func() { put("model/adapter.safetensors", "x") },
		"a merged folder": func() { put("model/merged/0/"+checkpoints.AdapterConfigName, "{}") },
	} {
		change()
		now := hash("latest")
		if now == was {
			t.Errorf("the digest stays the same with other %s", name)
		}
		was = now
	}
	put("model/results/me/r1/STS.json", "{}")
	put("model/results/me/r1/model_meta.json", "{}")
	put("model/README.md", "a model")
	put("model/"+checkpoints.OptimizerName, "moments")
	if got := hash("model"); got != was {
		t.Errorf("the digest changes with results, a README or the optimizer's state")
	}
}
