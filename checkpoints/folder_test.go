package checkpoints_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/data/tokenize"
	"github.com/counterpoint-ml/counterpoint/data/tokenize/tiny"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

// TestCheckpointIsAModelFolder: what model.path accepts, with the weights that were written.
func TestCheckpointIsAModelFolder(t *testing.T) {
	for _, preset := range []string{"tiny-diffusion", "tiny-causal"} {
		t.Run(preset, func(t *testing.T) {
			config := backbone.Config{Preset: preset}
			model, base := open(t, config)
			tokenizer, err := tiny.Open()
			if err != nil {
				t.Fatal(err)
			}
			n := len(model.Parameters())
			s := &checkpoints.Snapshot{
				Step: 5, Parameters: model.Parameters(), First: make([]float32, n), Second: make([]float32, n), Files: tiny.Files().Contents(),
				Origin: checkpoints.Origin{Tokenizer: tokenizer.Digest()},
			}
			for _, p := range model.Params() {
				s.Tensors = append(s.Tensors, checkpoints.Tensor{Name: p.Name, Shape: p.Shape})
			}
			if s.Files[checkpoints.ModelConfigName], err = base.ConfigJSON(""); err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			if _, err := (&checkpoints.Series{Store: checkpoints.NewLocal(root)}).Write(context.Background(), s); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(root, checkpoints.Name(5))
			digest := func(dir string) (string, error) {
				tok, err := tokenize.Open(dir)
				if err != nil {
					return "", err
				}
				return tok.Digest(), nil
			}
			if r := checkpoints.Verify(context.Background(), dir, checkpoints.Hashers{Tokenizer: digest}); r.Err() != nil {
				t.Errorf("Verify(): %v", r.Err())
			}
			again, _ := open(t, backbone.Config{Path: dir})
			if !slices.Equal(again.Parameters(), model.Parameters()) {
				t.Error("the folder gives other parameters")
			}
		})
	}
}

func open(t *testing.T, config backbone.Config) (*backbone.Model, *backbone.Base) {
	t.Helper()
	base, err := backbone.Load(config, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	device, err := cpu.New(1)
	if err != nil {
		t.Fatal(err)
	}
	model, err := backbone.New(base, device, config, backbone.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return model, base
}
