package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/counterpoint-ml/counterpoint/"

// graph states which packages of ours each package may import. Imports point down only.
//
// DO NOT CHANGE THIS DATA TO FIX A BUILD. A new arrow is a decision about the design: it belongs into
// ARCHITECTURE.md first.
const graph = `
# leaves
data/golden:
coordinator/pack:
trainer/philox:
trainer/engine/cpu/isa:
trainer/engine/cpu/pool:
trainer/engine/cpu/heap:
checkpoints/safetensors:
checkpoints/identity:

# data
data/spelling:
data/parquet:
data/parquet/parquettest:
data: data/spelling data/parquet
data/tokenize:
data/tokenize/tiny: data/tokenize

# checkpoints: no gorgonia, no NATS
checkpoints: checkpoints/identity checkpoints/safetensors
checkpoints/hub: checkpoints checkpoints/safetensors
checkpoints/storetest: checkpoints
checkpoints/object: checkpoints data/spelling
checkpoints/object/s3test:

# trainer: no NATS, no leases, no files of runs
trainer/fixed: trainer/engine/cpu/simd
trainer/optim: trainer/engine/cpu/simd trainer/fixed
trainer/engine/cpu/gemm: trainer/engine/cpu/isa trainer/engine/cpu/pool
trainer/engine/cpu/simd: trainer/engine/cpu/isa trainer/engine/cpu/pool trainer/engine/cpu/gemm trainer/philox
trainer/contrastive: trainer/engine trainer/ops trainer/philox
trainer/ops:
trainer/engine: trainer/ops
trainer/engine/cpu: trainer/engine trainer/ops trainer/engine/cpu/gemm trainer/engine/cpu/heap trainer/engine/cpu/isa trainer/engine/cpu/pool trainer/engine/cpu/simd trainer/philox
trainer/engine/enginetest: trainer/engine trainer/ops trainer/philox
trainer/backbone: trainer/engine trainer/ops trainer/philox checkpoints/hub checkpoints/safetensors data
trainer/encode/vectors:
trainer/evaluate/metric:
trainer/evaluate: data data/spelling trainer/evaluate/metric trainer/philox trainer/engine/cpu/gemm trainer/engine/cpu/pool
trainer: trainer/backbone trainer/contrastive trainer/optim trainer/fixed trainer/engine trainer/engine/cpu/pool data
trainer/encode: checkpoints checkpoints/hub checkpoints/safetensors data data/parquet data/tokenize trainer trainer/backbone trainer/engine
trainer/export: checkpoints checkpoints/hub checkpoints/safetensors data data/tokenize trainer/backbone trainer/encode trainer/engine

# coordinator: no tensors
coordinator/credential: data/spelling
coordinator/wire: coordinator/pack data
coordinator/wire/bus: coordinator/credential coordinator/wire
coordinator/wire/bus/membus: coordinator/wire/bus
coordinator/fsm: coordinator/pack
coordinator/plan: coordinator/fsm
coordinator/consensus/disk:
coordinator/consensus: coordinator/consensus/disk
coordinator/ledger: coordinator/fsm data
coordinator/report: coordinator
coordinator/progress: coordinator
coordinator/api: coordinator coordinator/credential coordinator/wire coordinator/wire/bus data/spelling
coordinator: checkpoints/identity coordinator/credential coordinator/pack coordinator/fsm coordinator/plan coordinator/consensus coordinator/wire coordinator/wire/bus data

# worker: no Raft, no fsm, no plan
worker/collective: coordinator/wire trainer/fixed
worker/direct: coordinator/wire
worker: worker/collective worker/direct coordinator/wire coordinator/wire/bus trainer trainer/fixed data
worker/workertest: coordinator/wire trainer trainer/fixed data

# configs: the component's Config structs only
configs: data/spelling checkpoints checkpoints/object coordinator data trainer trainer/backbone trainer/contrastive trainer/evaluate trainer/optim
`

// owners are the packages that alone may import a library (tests included).
var owners = map[string][]string{
	"github.com/hashicorp/raft":      {"coordinator/consensus", "coordinator/consensus/disk"},
	"github.com/nats-io/":            {"coordinator/wire/bus"},
	"github.com/minio/":              {"checkpoints/object", "checkpoints/object/s3test"},
	"github.com/spf13/viper":         {"configs"},
	"github.com/spf13/cobra":         {"."},
	"gorgonia.org/":                  {"trainer/ops", "trainer/engine", "trainer/engine/cpu", "trainer/engine/enginetest", "trainer/backbone"},
	"github.com/vbauerster/mpb":      {"coordinator/progress"},
	"github.com/goccy/go-yaml":       {"configs"},
	"golang.org/x/text/unicode/norm": {"data/tokenize"},
	"github.com/parquet-go/":         {"data/parquet", "data/parquet/parquettest"},
}

func TestImportGraph(t *testing.T) {
	allowed := map[string][]string{}
	for _, line := range strings.Split(graph, "\n") {
		name, list, ok := strings.Cut(line, ":")
		if ok && !strings.HasPrefix(line, "#") {
			allowed[name] = strings.Fields(list)
		}
	}
	seen := map[string]bool{} // packages, and arrows
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_") || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from := filepath.ToSlash(filepath.Dir(path))
		seen[from] = true
		test := strings.HasSuffix(path, "_test.go")
		for _, spec := range file.Imports {
			to := strings.Trim(spec.Path.Value, `"`)
			for library, who := range owners {
				if strings.HasPrefix(to, library) && !slices.Contains(who, from) {
					t.Errorf("%s imports %s; only %v may", path, to, who)
				}
			}
			to, ours := strings.CutPrefix(to, module)
			if !ours || test || from == "." { // main wires everything; tests may look around
				continue
			}
			list, known := allowed[from]
			if strings.HasPrefix(from, "scripts/") {
				continue
			}
			seen[from+" -> "+to] = true
			if !known {
				t.Errorf("%s: package %s is not in the graph", path, from)
			} else if !slices.Contains(list, to) {
				t.Errorf("%s: a new arrow %s -> %s; allowed: %v", path, from, to, list)
			}
			if strings.HasPrefix(to, "scripts/") {
				t.Errorf("%s imports %s; scripts are never imported", path, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, list := range allowed {
		if !seen[name] {
			t.Errorf("the graph names %s, which does not exist", name)
		}
		for _, to := range list {
			if !seen[name+" -> "+to] {
				t.Errorf("the graph has the arrow %s -> %s, which no file uses", name, to)
			}
		}
	}
}

// The table of ARCHITECTURE.md gives a reason for each module that go.mod requires directly, and for no other.
func TestDependenciesHaveReasons(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{"mvdan.cc/gofumpt": true, "honnef.co/go/tools": true} // tools
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+?)(?:/v\d+)? v\S+$`).FindAllStringSubmatch(string(mod), -1) {
		direct[strings.TrimPrefix(m[1], "github.com/")] = true
	}
	_, table, _ := strings.Cut(string(text), "| module | reason |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, line := range strings.Split(table, "\n") {
		for _, m := range strings.Split(strings.Split(line, "|")[1], ",") {
			if m = strings.TrimSpace(m); !direct[m] {
				t.Errorf("ARCHITECTURE.md gives a reason for %s, which go.mod does not require directly", m)
			}
			delete(direct, m)
		}
	}
	for m := range direct {
		t.Errorf("ARCHITECTURE.md gives no reason for %s", m)
	}
}
