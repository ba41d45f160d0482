package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

type goldenTensor struct {
	DType  string `json:"dtype"`
	Shape  []int  `json:"shape"`
	Values []any  `json:"values"`
}

type goldenCase struct {
	File    string                  `json:"file"`
	Folder  string                  `json:"folder"`
	Expect  string                  `json:"expect"`
	Why     string                  `json:"why"`
	Tensors map[string]goldenTensor `json:"tensors"`
}

func readManifest(t *testing.T) (dir string, files, folders []goldenCase) {
	dir = filepath.Join(golden.Dir(t, "files"), "safetensors")
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Files, Folders []goldenCase }
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Files) == 0 || len(manifest.Folders) == 0 {
		t.Fatalf("manifest has %d files and %d folders", len(manifest.Files), len(manifest.Folders))
	}
	return dir, manifest.Files, manifest.Folders
}

func TestGoldenFiles(t *testing.T) {
	dir, files, _ := readManifest(t)
	for _, c := range files {
		t.Run(c.File, func(t *testing.T) {
			f, err := Open(filepath.Join(dir, c.File))
			checkExpectation(t, c, c.File, f, err)
		})
	}
}

func TestGoldenFolders(t *testing.T) {
	dir, _, folders := readManifest(t)
	for _, c := range folders {
		t.Run(c.Folder, func(t *testing.T) {
			f, err := OpenFolder(filepath.Join(dir, "index", c.Folder))
			checkExpectation(t, c, c.Folder, f, err)
		})
	}
}

func checkExpectation(t *testing.T, c goldenCase, name string, f Tensors, err error) {
	t.Helper()
	if err == nil {
		defer f.Close()
	} else if !strings.Contains(err.Error(), name) {
		t.Errorf("error %q does not name %s", err, name)
	}
	switch {
	case c.Expect == "valid" && err != nil:
		t.Fatalf("%s: %v", c.Why, err)
	case c.Expect == "invalid" && err == nil:
		t.Fatalf("accepted, want an error: %s", c.Why)
	case c.Expect == "valid":
		checkTensors(t, f, c.Tensors)
	}
}

func checkTensors(t *testing.T, f Tensors, want map[string]goldenTensor) {
	t.Helper()
	if got := f.Names(); len(got) != len(want) {
		t.Errorf("Names() = %q, want %d names", got, len(want))
	}
	for name, w := range want {
		info, ok := f.Info(name)
		if !ok {
			t.Errorf("no tensor %q", name)
			continue
		}
		if string(info.DType) != w.DType || !slices.Equal(info.Shape, w.Shape) {
			t.Errorf("Info(%q) = %s %v, want %s %v", name, info.DType, info.Shape, w.DType, w.Shape)
		}
		got := readAll(t, f, info)
		if len(got) != len(w.Values) {
			t.Errorf("%q has %d values, want %d", name, len(got), len(w.Values))
			continue
		}
		for i := range got {
			if g, e := got[i], expected(t, w.DType, w.Values[i]); g != e {
				t.Errorf("%q[%d] = %s, want %s", name, i, g, e)
			}
		}
	}
}

// readAll reads a tensor as exact text: integers in decimal, floats as float64 bits, NaN as NaN.
func readAll(t *testing.T, f Tensors, info Info) []string {
	t.Helper()
	var out []string
	fail := func(err error) {
		if err != nil {
			t.Errorf("%q: %v", info.Name, err)
		}
	}
	file, single := f.(*File)
	switch {
	case info.DType == U64:
		b, err := f.Bytes(info.Name)
		fail(err)
		for ; len(b) >= 8; b = b[8:] {
			out = append(out, strconv.FormatUint(binary.LittleEndian.Uint64(b), 10))
		}
	case info.DType == F64 && single:
		v, err := file.Float64(nil, info.Name)
		fail(err)
		for _, x := range v {
			out = append(out, exact(x))
		}
	case strings.Contains(string(info.DType), "F"):
		v, err := f.Float32(nil, info.Name)
		fail(err)
		for _, x := range v {
			out = append(out, exact(float64(x)))
		}
	case single:
		v, err := file.Int64(nil, info.Name)
		fail(err)
		for _, x := range v {
			out = append(out, strconv.FormatInt(x, 10))
		}
	}
	return out
}

func expected(t *testing.T, dtype string, v any) string {
	t.Helper()
	switch v := v.(type) {
	case bool:
		if v {
			return "1"
		}
		return "0"
	case json.Number:
		if !strings.Contains(dtype, "F") {
			return v.String()
		}
		x, err := v.Float64()
		if err != nil {
			t.Fatal(err)
		}
		return exact(x)
	case string:
		x, err := strconv.ParseFloat(v, 64)
		if err != nil {
			t.Fatal(err)
		}
		return exact(x)
	}
	t.Fatalf("value %v of type %T", v, v)
	return ""
}

func exact(x float64) string {
	if math.IsNaN(x) {
		return "NaN"
	}
	return strconv.FormatFloat(x, 'x', -1, 64)
}
