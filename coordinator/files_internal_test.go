package coordinator

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

func TestAdaptersAreServed(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for dir, text := range map[string]string{first: "one", second: "two"} {
		if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := newFiles(Submission{Adapters: []string{first, second}}, nil)
	for name, want := range map[string]string{
		"adapters/0/adapter_config.json": "one", "adapters/1/adapter_config.json": "two", "adapters/1/": `"name":"adapter_config.json"`,
	} {
		if r := f.get(&wire.FileRequest{Name: name}); r.Err != "" || !strings.Contains(string(r.Payload), want) {
			t.Errorf("get(%s) = %q, %q, want %q", name, r.Payload, r.Err, want)
		}
	}
	for _, name := range []string{"adapters/2/adapter_config.json", "adapters/-1/x", "adapters/x/y", "adapters/", "adapters/0/../x"} {
		if r := f.get(&wire.FileRequest{Name: name}); r.Err == "" {
			t.Errorf("get(%s) = %q, want an error", name, r.Payload)
		}
	}
}
