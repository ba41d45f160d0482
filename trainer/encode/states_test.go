package encode_test

import (
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// stateTolerance is that of the goldens' README.
const stateTolerance = 5e-5

// TestGoldenAdapterStates: the states of every PEFT adapter merged over its base, against those with the adapter active
// and those after PEFT's own merge.
func TestGoldenAdapterStates(t *testing.T) {
	bases := golden.Dir(t, "backbones")
	for _, dir := range adapters(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			want := fixture(t, filepath.Join(dir, "expected.safetensors"))
			adapter, err := hub.OpenAdapter(dir)
			if err != nil {
				t.Fatal(err)
			}
			home := filepath.Join(bases, filepath.Base(adapter.Base))
			weights, err := safetensors.OpenFolder(home)
			if err != nil {
				t.Fatal(err)
			}
			merged, err := adapter.Over(weights)
			if err != nil {
				t.Fatal(err)
			}
			architecture, err := backbone.ReadArchitecture(home)
			if err != nil {
				t.Fatal(err)
			}
			base, err := backbone.Open(architecture, merged, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer base.Close()
			for _, attention := range []string{backbone.Causal, backbone.Bidirectional} {
				m, err := backbone.New(base, device(t), backbone.Config{Attention: attention}, backbone.Options{Frozen: true})
				if err != nil {
					t.Fatal(err)
				}
				got, err := m.Hidden(backbone.Batch{Texts: packed(t, want, "")})
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"hidden." + attention, "merged.hidden." + attention} {
					d := difference(got, floats(t, want, name))
					if d > stateTolerance {
						t.Errorf("%s differs by %g, want at most %g", name, d, stateTolerance)
					}
					t.Logf("%s: largest difference %.2g", name, d)
				}
			}
		})
	}
}
