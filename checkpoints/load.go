package checkpoints

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

// ReadManifest reads and checks the manifest of a checkpoint's folder. The other files are not looked at.
func ReadManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, ManifestName)
	text, err := readLimited(path, maxManifest)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: the checkpoint was not finished, or this is none: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return text, nil
}

func (m *Manifest) names() []string {
	names := make([]string, 0, len(m.Files))
	for name := range m.Files {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (m *Manifest) checkSizes(dir string) error {
	for _, name := range m.names() {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if want := m.Files[name].Size; !info.Mode().IsRegular() || info.Size() != want {
			return fmt.Errorf("%s has %d bytes, the manifest says %d", filepath.Join(dir, name), info.Size(), want)
		}
	}
	return nil
}

// CheckFiles reads every file of the checkpoint in dir and compares size and sum.
func (m *Manifest) CheckFiles(ctx context.Context, dir string) error {
	if err := m.checkSizes(dir); err != nil {
		return err
	}
	for _, name := range m.names() {
		if err := m.checkFile(ctx, dir, name); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manifest) checkFile(ctx context.Context, dir, name string) error {
	path := filepath.Join(dir, name)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(&cancellable{ctx, h}, f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	want := m.Files[name]
	if got := hex.EncodeToString(h.Sum(nil)); n != want.Size || got != want.SHA256 {
		return fmt.Errorf("%s: %d bytes with SHA-256 %.16s, the manifest says %d with %.16s: damaged", path, n, got, want.Size, want.SHA256)
	}
	return nil
}

func readState(dir string) (*state, error) {
	path := filepath.Join(dir, StateName)
	text, err := readLimited(path, maxManifest)
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var spec bytes.Buffer // without the file's indentation, so that its digest is the identity again
	if len(s.Spec) > 0 {
		if err := json.Compact(&spec, s.Spec); err != nil {
			return nil, fmt.Errorf("%s: spec: %w", path, err)
		}
		s.Spec = spec.Bytes()
	}
	return &s, nil
}

// Load reads a checkpoint's folder completely, after comparing every file with the manifest.
func Load(ctx context.Context, dir string) (*Snapshot, error) {
	s, err := load(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("load checkpoint %s: %w", dir, err)
	}
	return s, nil
}

func load(ctx context.Context, dir string) (*Snapshot, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	if err := m.CheckFiles(ctx, dir); err != nil {
		return nil, err
	}
	st, err := readState(dir)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Step: st.Step, Attempt: st.Attempt, Tensors: st.Tensors, Files: map[string][]byte{}, Origin: m.Origin}
	s.Spec = st.Spec
	if st.Step != m.Step || st.Seed != m.Seed || st.Parameters != m.ParameterDigest {
		return nil, fmt.Errorf("%s is of step %d, seed %d; the manifest of step %d, seed %d", StateName, st.Step, st.Seed, m.Step, m.Seed)
	}
	weights := ModelName
	for _, name := range m.names() {
		if !reserved(name) {
			if s.Files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				return nil, err
			}
		}
	}
	if _, ok := m.Files[AdapterName]; ok {
		weights = AdapterName
		text, err := os.ReadFile(filepath.Join(dir, AdapterConfigName))
		if err != nil {
			return nil, err
		}
		if s.Adapter, err = parseAdapter(text); err != nil {
			return nil, fmt.Errorf("%s: %w", AdapterConfigName, err)
		}
	}
	if s.Parameters, err = s.gather(filepath.Join(dir, weights), "", nil); err != nil {
		return nil, err
	}
	optimizer := filepath.Join(dir, OptimizerName)
	if s.First, err = s.gather(optimizer, "first.", nil); err != nil {
		return nil, err
	}
	if s.Second, err = s.gather(optimizer, "second.", nil); err != nil {
		return nil, err
	}
	if st.Maxima >= 0 {
		if s.Maxima, err = s.gather(optimizer, "", []Tensor{{"maxima", []int{st.Maxima}}}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// gather reads tensors, those of the snapshot unless others are given, one after another into flat values.
func (s *Snapshot) gather(path, prefix string, tensors []Tensor) ([]float32, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if tensors == nil {
		tensors = s.Tensors
	}
	size := 0
	for _, t := range tensors {
		info, ok := f.Info(prefix + t.Name)
		if !ok || info.DType != safetensors.F32 || !slices.Equal(info.Shape, t.Shape) {
			return nil, fmt.Errorf("%s: tensor %q is %s %v, want F32 %v", path, prefix+t.Name, info.DType, info.Shape, t.Shape)
		}
		size += info.Elements()
	}
	out := make([]float32, 0, size)
	for _, t := range tensors {
		if out, err = f.Float32(out, prefix+t.Name); err != nil {
			return nil, err
		}
	}
	return out, nil
}
