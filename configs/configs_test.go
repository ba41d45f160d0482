package configs

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the expected messages; read the difference before committing it")

func TestGoodFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.good.yaml")
	examples, _ := filepath.Glob("examples/*.yaml")
	if len(files) < 3 {
		t.Fatalf("%d good files", len(files))
	}
	for _, f := range append(files, examples...) {
		t.Run(filepath.Base(f), func(t *testing.T) {
			if _, err := Load(beside(t, f), Layers{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

var shared = regexp.MustCompile(`(?:\.\./)+shared/[^,}\s]+`)

// beside returns the file, or a copy of it where what it names beside the repository is there, though empty.
func beside(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	names := shared.FindAllString(string(text), -1)
	if len(names) == 0 {
		return file
	}
	dir := filepath.Join(t.TempDir(), "repository", "configs", "examples")
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(path) == ".gz" {
			err = os.WriteFile(path, nil, 0o644)
		} else {
			err = os.MkdirAll(path, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	copied := filepath.Join(dir, filepath.Base(file))
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(copied, text, 0o644)); err != nil {
		t.Fatal(err)
	}
	return copied
}

// Each bad file has its whole expected message beside it.
func TestBadFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.bad.yaml")
	if len(files) < 8 {
		t.Fatalf("%d bad files", len(files))
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			_, err := Load(f, Layers{})
			if err == nil {
				t.Fatal("loaded, want an error")
			}
			want := strings.TrimSuffix(f, ".yaml") + ".txt"
			got := filepath.ToSlash(err.Error()) + "\n"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(text) {
				t.Errorf("got:\n%swant:\n%s", got, text)
			}
		})
	}
}

func TestDecodedValues(t *testing.T) {
	c, err := Load("testdata/full.good.yaml", Layers{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Train.Batch != 512 || c.Train.Schedule.Peak != 1e-4 || c.Model.LoRA == nil || c.Model.LoRA.Dropout != 0.05 ||
		c.Cluster.FailureTimeout != time.Second || c.Data[0].Limit != 8000 || c.Data[0].OnError != "refuse" || c.Loss.HardNegatives != 1 {
		t.Errorf("decoded %+v", c)
	}
	if c.Data[0].Path != filepath.Join("testdata", "pairs.jsonl") {
		t.Errorf("data[0].path = %q, want it relative to the run file", c.Data[0].Path)
	}
	least, err := Load("testdata/minimal.good.yaml", Layers{})
	if err != nil {
		t.Fatal(err)
	}
	if least.Model.LoRA != nil || least.Train.Batch != 128 || least.Loss.Kind != "infonce" || !*least.Model.PoolPrompt {
		t.Errorf("defaults: %+v", least)
	}
	big, err := Load("testdata/pretrain.good.yaml", Layers{})
	if err != nil {
		t.Fatal(err)
	}
	if big.Train.Seed != 1<<64-1 {
		t.Errorf("seed = %d, want all 64 bits", big.Train.Seed)
	}
}

// Names of the user's own, regular expressions too, come through as they are written.
func TestNumbers(t *testing.T) {
	c, err := Load("testdata/matryoshka.good.yaml", Layers{Set: []string{"model.lora.alpha_pattern={Layers.1.x: 3}", "loss.matryoshka_weights=[1, 2, 3]"}})
	if err != nil {
		t.Fatal(err)
	}
	ranks := map[string]int{"q_proj": 32, "layers.0.mlp.down_proj": 8, `layers\.[1-3]\.self_attn\.[KV]_proj`: 4}
	if l := c.Model.LoRA; !maps.Equal(l.RankPattern, ranks) || !maps.Equal(l.AlphaPattern, map[string]float64{"Layers.1.x": 3}) {
		t.Errorf("patterns %v %v, want %v and that of --set", l.RankPattern, l.AlphaPattern, ranks)
	}
	if l := c.Loss; !slices.Equal(l.Matryoshka, []int{64, 32, 16}) || !slices.Equal(l.MatryoshkaWeights, []float64{1, 2, 3}) || *l.MaskMargin != 0.1 {
		t.Errorf("loss %+v", l)
	}
}

func TestLayers(t *testing.T) {
	c, err := Load("testdata/full.good.yaml", Layers{
		Env: []string{"COUNTERPOINT_TRAIN_BATCH=64", "COUNTERPOINT_TRAIN_STEPS=7", "COUNTERPOINT_TRAIN_SCHEDULE_WARMUP=2", "COUNTERPOINT_KERNELS=avx2", "COUNTERPOINT_DATA=/x", "HOME=/"},
		Set: []string{"train.steps=9", "data[0].limit=5", "model.lora.rank=8", "cluster.failure_timeout=500ms"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Train.Batch != 64 || c.Train.Steps != 9 || c.Data[0].Limit != 5 || c.Model.LoRA.Rank != 8 || c.Model.LoRA.Alpha != 32 || c.Cluster.FailureTimeout != 500*time.Millisecond {
		t.Errorf("merged %+v %+v", c.Train, c.Model.LoRA)
	}
	for name, l := range map[string]struct {
		layers Layers
		want   string
	}{
		"env value":   {Layers{Env: []string{"COUNTERPOINT_TRAIN_BATCH=many"}}, `environment COUNTERPOINT_TRAIN_BATCH: train.batch: found "many" (text), want a whole number`},
		"env name":    {Layers{Env: []string{"COUNTERPOINT_TRAIN_BACTH=1"}}, `did you mean "COUNTERPOINT_TRAIN_BATCH"?`},
		"set key":     {Layers{Set: []string{"train.bacth=1"}}, `--set train.bacth=1: train.bacth: unknown key; did you mean "train.batch"?`},
		"set value":   {Layers{Set: []string{"train.batch=0"}}, `--set train.batch=0: train.batch: found 0, want a whole number from 1`},
		"set element": {Layers{Set: []string{"data[3].limit=1"}}, `the list has 1 elements`},
		"set nothing": {Layers{Set: []string{"train.batch"}}, `want key=value`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load("testdata/full.good.yaml", l.layers)
			if err == nil || !strings.Contains(err.Error(), l.want) {
				t.Errorf("error %v, want %q in it", err, l.want)
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := Load("testdata/nowhere.yaml", Layers{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want not-exist", err)
	}
}

// Every key can be explained, is in the JSON Schema and meets a field of its struct.
func TestSchema(t *testing.T) {
	raw, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(raw) {
		t.Fatal("the schema is no JSON")
	}
	for _, k := range Keys {
		var b bytes.Buffer
		if err := Explain(&b, k.Path); err != nil {
			t.Error(err)
		}
		if k.Doc == "" || !strings.Contains(b.String(), k.Doc) {
			t.Errorf("%s: no explanation", k.Path)
		}
		if _, name := split(k.Path); !bytes.Contains(raw, []byte(`"`+name+`"`)) {
			t.Errorf("%s: not in the JSON Schema", k.Path)
		}
	}
	var b bytes.Buffer
	if err := Explain(&b, "data[2].limt"); err == nil || !strings.Contains(err.Error(), "data[].limit") {
		t.Errorf("error %v, want the nearest key", err)
	}
}

func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = Decode("testdata/fuzz.yaml", text, Layers{}) // any answer but a panic
	})
}
