package checkpoints

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

const (
	testHidden = 4
	testVocab  = 6
)

var testConfig = []byte(`{"model_type":"llama","hidden_size":4,"num_hidden_layers":2,"vocab_size":6}`)

func randomValues(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = rng.Float32()
	}
	return out
}

// fill gives a snapshot random state for its tensors.
func fill(s *Snapshot, step int64) *Snapshot {
	rng := rand.New(rand.NewPCG(uint64(step), 1))
	size := 0
	for _, t := range s.Tensors {
		size += t.Size()
	}
	s.Step, s.Attempt = step, int32(step%3)
	s.Parameters, s.First, s.Second = randomValues(rng, size), randomValues(rng, size), randomValues(rng, size)
	s.Maxima = randomValues(rng, len(s.Tensors))
	s.Origin = Origin{
		Run: "test", Seed: 1<<63 + 42, Identity: "1d", Data: "da7a", Tokenizer: "70", ParameterDigest: hashOf(s), Version: "v0",
		Metrics: map[string]float64{"ndcg@10": float64(step%5) / 7}, Spec: json.RawMessage(`{"train":{"seed":42,"batch":8},"data":[{"path":"a"}]}`),
	}
	return s
}

func hashOf(s *Snapshot) string {
	values := slices.Concat(s.Parameters, s.First, s.Second)
	var out bytes.Buffer
	_ = safetensors.Write(&out, []safetensors.Tensor{{Name: "p", Shape: []int{len(values)}, Values: values}}, nil)
	return fmt.Sprintf("%x", out.Len()) + fmt.Sprint(values)
}

func fullSnapshot(step int64) *Snapshot {
	s := &Snapshot{Files: map[string][]byte{ModelConfigName: testConfig, "tokenizer.json": []byte(`{"model":{}}`)}}
	s.Tensors = []Tensor{{"model.embed_tokens.weight", []int{testVocab, testHidden}}}
	for i := range 2 {
		prefix := fmt.Sprintf("model.layers.%d.", i)
		s.Tensors = append(s.Tensors, Tensor{prefix + "input_layernorm.weight", []int{testHidden}}, Tensor{prefix + "self_attn.q_proj.weight", []int{8, testHidden}})
	}
	s.Tensors = append(s.Tensors, Tensor{"model.norm.weight", []int{testHidden}})
	return fill(s, step)
}

func adapterSnapshot(step int64) *Snapshot {
	s := &Snapshot{
		Adapter: &Adapter{Base: "./base", Rank: 2, Alpha: 4, Dropout: 0.05, Targets: []string{"q_proj"}},
		Files:   map[string][]byte{ModelConfigName: testConfig},
	}
	module := "base_model.model.layers.0.self_attn.q_proj"
	s.Tensors = []Tensor{{module + ".lora_A.weight", []int{2, testHidden}}, {module + ".lora_B.weight", []int{8, 2}}}
	return fill(s, step)
}

func newSeries(t testing.TB) (*Series, string) {
	dir := filepath.Join(t.TempDir(), "checkpoints")
	return &Series{Store: &Local{dir, unsynced{}}}, dir
}

// TestNewLocal goes to the real disk, syncs included.
func TestNewLocal(t *testing.T) {
	series := &Series{Store: NewLocal(t.TempDir())}
	mustWrite(t, series, fullSnapshot(1))
	if e, damaged, err := series.Newest(context.Background()); err != nil || e.Step != 1 || len(damaged) > 0 {
		t.Errorf("Newest() = %v, %v, %v, want step 1", e, damaged, err)
	}
}

func mustWrite(t testing.TB, s *Series, snapshot *Snapshot) *Manifest {
	t.Helper()
	m, err := s.Write(context.Background(), snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestWriteLoads(t *testing.T) {
	noHistory := fullSnapshot(0)
	noHistory.Maxima = nil
	for name, want := range map[string]*Snapshot{"full": fullSnapshot(100), "adapter": adapterSnapshot(7), "no history": noHistory} {
		t.Run(name, func(t *testing.T) {
			series, dir := newSeries(t)
			m := mustWrite(t, series, want)
			got, err := Load(context.Background(), filepath.Join(dir, Name(want.Step)))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("Load() = %+v, want %+v", got, want)
			}
			if r := Verify(context.Background(), filepath.Join(dir, Name(want.Step)), Hashers{Parameters: hashOf}); r.Err() != nil {
				t.Errorf("Verify(): %v", r.Err())
			}
			read, err := ReadManifest(filepath.Join(dir, Name(want.Step)))
			if err != nil || read.Digest() != m.Digest() {
				t.Errorf("ReadManifest() = %v, %v, want the digest %s", read, err, m.Digest())
			}
		})
	}
}

// TestSameStateSameManifest: whichever worker writes, the coordinator commits the same digest.
func TestSameStateSameManifest(t *testing.T) {
	a, _ := newSeries(t)
	b, _ := newSeries(t)
	first, second := mustWrite(t, a, fullSnapshot(3)), mustWrite(t, b, fullSnapshot(3))
	if first.Digest() != second.Digest() {
		t.Errorf("digests %s and %s of the same state", first.Digest(), second.Digest())
	}
	other := fullSnapshot(3)
	other.First[5] = math.Nextafter32(other.First[5], 2)
	if m := mustWrite(t, b, other); m.Digest() == first.Digest() {
		t.Error("another state has the same digest")
	}
}

func TestWriteAgain(t *testing.T) {
	series, dir := newSeries(t)
	want := mustWrite(t, series, fullSnapshot(3))
	path := filepath.Join(dir, Name(3), StateName)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if m := mustWrite(t, series, fullSnapshot(3)); m.Digest() != want.Digest() {
		t.Errorf("second Write() = %s, want %s", m.Digest(), want.Digest())
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("an intact checkpoint was written again (%v)", err)
	}
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, series, fullSnapshot(3))
	if _, err := Load(context.Background(), filepath.Join(dir, Name(3))); err != nil {
		t.Errorf("a damaged checkpoint was not replaced: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	tests := map[string]func(*Snapshot){
		"short parameters": func(s *Snapshot) { s.Parameters = s.Parameters[1:] },
		"short moments":    func(s *Snapshot) { s.Second = nil },
		"path":             func(s *Snapshot) { s.Files["../x"] = nil },
		"hidden":           func(s *Snapshot) { s.Files[".x"] = nil },
		"reserved":         func(s *Snapshot) { s.Files[ManifestName] = nil },
		"step":             func(s *Snapshot) { s.Step = -1 },
		"names":            func(s *Snapshot) { s.Tensors[1].Name = s.Tensors[0].Name },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			series, dir := newSeries(t)
			s := fullSnapshot(1)
			spoil(s)
			if _, err := series.Write(context.Background(), s); err == nil {
				t.Error("Write() accepted it")
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestList(t *testing.T) {
	series, dir := newSeries(t)
	for _, step := range []int64{100, 9, 300, 200, 400} {
		mustWrite(t, series, fullSnapshot(step))
	}
	if err := os.MkdirAll(filepath.Join(dir, "notes"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, Name(400), ManifestName)); err != nil {
		t.Fatal(err)
	}
	entries, err := series.List(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	var steps []int64
	for _, e := range entries {
		steps = append(steps, e.Step)
		if (e.Err != nil) != (e.Step == 400) {
			t.Errorf("List(): %s has the error %v", e.Name, e.Err)
		}
	}
	if want := []int64{400, 300, 200, 100, 9}; !slices.Equal(steps, want) {
		t.Errorf("List() = %v, want %v", steps, want)
	}
}

func TestNewest(t *testing.T) {
	ctx := context.Background()
	series, dir := newSeries(t)
	if _, _, err := series.Newest(ctx); !errors.Is(err, ErrNone) {
		t.Errorf("Newest() of nothing = %v, want %v", err, ErrNone)
	}
	mustWrite(t, series, fullSnapshot(1))
	mustWrite(t, series, fullSnapshot(2))
	mustWrite(t, series, fullSnapshot(3))
	path := filepath.Join(dir, Name(3), OptimizerName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 4
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	e, damaged, err := series.Newest(ctx)
	if err != nil || e.Step != 2 {
		t.Errorf("Newest() = step %d, %v, want step 2", e.Step, err)
	}
	if len(damaged) != 1 || !strings.Contains(damaged[0].Error(), Name(3)) || !strings.Contains(damaged[0].Error(), OptimizerName) {
		t.Errorf("damaged = %v, want one error that names %s and %s", damaged, Name(3), OptimizerName)
	}
}

func TestDifferencesOfACheckpoint(t *testing.T) {
	series, dir := newSeries(t)
	mustWrite(t, series, fullSnapshot(1))
	s, err := Load(t.Context(), filepath.Join(dir, Name(1)))
	if err != nil {
		t.Fatal(err)
	}
	got := Differences(s.Spec, []byte(`{"train":{"seed":43,"batch":8},"data":[{"path":"a"},{"path":"b"}]}`))
	want := []string{`data[1].path: not set in the checkpoint, "b" now`, "train.seed: 42 in the checkpoint, 43 now"}
	if !slices.Equal(got, want) {
		t.Errorf("Differences() = %q, want %q", got, want)
	}
}

func TestDifferences(t *testing.T) {
	tests := []struct {
		have, want string
		out        []string
	}{
		{`{"a":1}`, `{"a":1}`, nil},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`, []string{"a: 9007199254740993 in the checkpoint, 9007199254740992 now"}},
		{`{"a":{"b":true}}`, `{}`, []string{"a.b: true in the checkpoint, not set now"}},
		{`{"a":null}`, `{"a":"x"}`, []string{`a: null in the checkpoint, "x" now`}},
	}
	for _, tt := range tests {
		if got := Differences([]byte(tt.have), []byte(tt.want)); !slices.Equal(got, tt.out) {
			t.Errorf("Differences(%s, %s) = %q, want %q", tt.have, tt.want, got, tt.out)
		}
	}
}
