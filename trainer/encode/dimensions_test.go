package encode_test

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
)

// TestDimensions: a cut embedding is the beginning of the whole one, normalised again; more than there are is an error.
func TestDimensions(t *testing.T) {
	dir := filepath.Join(golden.Dir(t, "sentence-transformers"), "mean")
	whole := open(t, dir, encode.Options{})
	texts := []string{"a short text", "another one, which is a little longer", "x"}
	want, width := embed(t, whole, "", texts), whole.Width()
	for _, n := range []int{1, 7, width} {
		e := open(t, dir, encode.Options{Dimensions: n})
		if e.Width() != n {
			t.Fatalf("Width() = %d, want %d", e.Width(), n)
		}
		got := embed(t, e, "", texts)
		for i := range texts {
			square := 0.0
			for _, v := range want[i*width:][:n] {
				square += float64(v) * float64(v)
			}
			for j, v := range want[i*width:][:n] {
				if w := float64(v) / math.Sqrt(square); math.Abs(float64(got[i*n+j])-w) > 1e-6 {
					t.Errorf("%d dimensions: text %d, value %d = %v, want %v", n, i, j, got[i*n+j], w)
				}
			}
		}
	}
	if _, err := encode.Open(t.Context(), dir, device(t), encode.Options{Dimensions: width + 1}); err == nil || !strings.Contains(err.Error(), "dimensions asked for") {
		t.Errorf("Open with %d dimensions: %v, want an error", width+1, err)
	}
}
