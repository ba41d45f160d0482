package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

// Hashers compute digests that this package cannot know. nil: that check is left out, and the report says so.
type Hashers struct {
	Parameters func(s *Snapshot) string          // the tree hash of parameters and moments that steps commit
	Tokenizer  func(dir string) (string, error)  // of the tokenizer's files in a folder
	Spec       func(spec []byte) (string, error) // the run's identity
}

// Check is one thing that was looked at, in words, and what was wrong with it.
type Check struct {
	What string
	Err  error // nil: as it should be
}

// Report is what Verify found, in the order in which it looked.
type Report struct {
	Manifest *Manifest // nil if it could not be read
	Checks   []Check
	Notes    []string // what is odd, or was not checked
}

// Err joins all faults; nil if there are none.
func (r *Report) Err() error {
	var errs []error
	for _, c := range r.Checks {
		if c.Err != nil {
			errs = append(errs, fmt.Errorf("check %q: %w", c.What, c.Err))
		}
	}
	return errors.Join(errs...)
}

func (r *Report) add(err error, format string, args ...any) bool {
	r.Checks = append(r.Checks, Check{fmt.Sprintf(format, args...), err})
	return err == nil
}

// Verify checks everything about a checkpoint's folder that can be checked, as far as one fault does not hide the
// next, and lists it.
func Verify(ctx context.Context, dir string, h Hashers) *Report {
	r := &Report{}
	m, err := ReadManifest(dir)
	if !r.add(err, "manifest.json is complete and matches its own checksum") {
		return r
	}
	r.Manifest = m
	var bytes int64
	intact := true
	for _, name := range m.names() {
		bytes += m.Files[name].Size
		if err := m.checkFile(ctx, dir, name); err != nil {
			intact = r.add(err, "%s matches the manifest", name)
		}
	}
	if intact {
		r.add(nil, "%d files, %d bytes: every size and SHA-256 as in the manifest", len(m.Files), bytes)
	}
	r.unlisted(dir, m)
	for _, name := range m.names() {
		if strings.HasSuffix(name, ".safetensors") {
			r.verifyTensors(filepath.Join(dir, name), name)
		}
	}
	s, err := Load(ctx, dir)
	if !r.add(err, "state, parameters and moments fit together") {
		return r
	}
	r.add(negative(s.Second), "no second moment is negative")
	r.verifyConfig(s)
	r.verifyDigests(dir, m, s, h)
	return r
}

func (r *Report) unlisted(dir string, m *Manifest) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		r.Notes = append(r.Notes, err.Error())
	}
	for _, e := range entries {
		if _, ok := m.Files[e.Name()]; !ok && e.Name() != ManifestName {
			r.Notes = append(r.Notes, fmt.Sprintf("%s is not in the manifest: not checked, not used", e.Name()))
		}
	}
}

// verifyTensors opens a file, which checks its structure, and looks at every floating-point value.
func (r *Report) verifyTensors(path, name string) {
	f, err := safetensors.Open(path)
	if !r.add(err, "%s has a sound header, without holes, overlaps or bytes left over", name) {
		return
	}
	defer f.Close()
	count := 0
	var values []float32
	for _, tensor := range f.Names() {
		if info, _ := f.Info(tensor); !strings.Contains(string(info.DType), "F") {
			continue
		}
		if values, err = f.Float32(values[:0], tensor); err != nil {
			break
		}
		if err = finite(tensor, values); err != nil {
			break
		}
		count += len(values)
	}
	r.add(err, "%s: all %d values of %d tensors are finite", name, count, len(f.Names()))
}

func finite(tensor string, values []float32) error {
	for i, v := range values {
		if v-v != 0 { // NaN or infinite
			return fmt.Errorf("tensor %q: element %d is %v", tensor, i, v)
		}
	}
	return nil
}

func negative(values []float32) error {
	for i, v := range values {
		if v < 0 || math.Signbit(float64(v)) && v != 0 {
			return fmt.Errorf("element %d is %v", i, v)
		}
	}
	return nil
}

func (r *Report) verifyDigests(dir string, m *Manifest, s *Snapshot, h Hashers) {
	compare := func(got, want, what string) {
		var err error
		if got != want {
			err = fmt.Errorf("it is %.16s, the manifest says %.16s", got, want)
		}
		r.add(err, "%s is the committed one", what)
	}
	if h.Parameters == nil || m.ParameterDigest == "" {
		r.Notes = append(r.Notes, "the digest of the parameters was not computed again")
	} else {
		compare(h.Parameters(s), m.ParameterDigest, "the digest of the parameters")
	}
	if h.Tokenizer == nil || m.Tokenizer == "" {
		r.Notes = append(r.Notes, "the digest of the tokenizer was not computed again")
	} else if got, err := h.Tokenizer(dir); err != nil {
		r.add(err, "the tokenizer can be read")
	} else {
		compare(got, m.Tokenizer, "the digest of the tokenizer")
	}
	if h.Spec == nil || len(s.Spec) == 0 {
		r.Notes = append(r.Notes, "the run's identity was not computed again")
	} else if got, err := h.Spec(s.Spec); err != nil {
		r.add(err, "the run's settings can be read")
	} else {
		compare(got, m.Identity, "the identity of the run")
	}
}
