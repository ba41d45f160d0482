package backbone

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

// One flipped bit anywhere in the memory of the frozen weights is found, and the tensors are named.
func TestFlippedFrozenWeights(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	lora := &LoRAConfig{Rank: 2, Alpha: 4}
	for name, c := range map[string]Config{
		"files":  {Path: filepath.Join(golden.Dir(t, "backbones"), "qwen2"), LoRA: lora},
		"preset": {Preset: "tiny-diffusion", LoRA: lora},
	} {
		t.Run(name, func(t *testing.T) {
			dev, err := cpu.New(1)
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			load := func() *Base {
				b, err := Load(c, 1)
				if err != nil {
					t.Fatal(err)
				}
				b.Watch()
				m, err := New(b, dev, c, Options{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { m.Free(); b.Close() })
				return b
			}
			b := load()
			digest := b.FrozenDigest()
			if again := load().FrozenDigest(); digest == "" || again != digest {
				t.Errorf("loaded twice, the weights have digests %q and %q", digest, again)
			}
			if err := b.CheckFrozen(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 50 {
				var all []engine.Form
				var keys []string
				for key, w := range b.watch {
					for _, f := range dev.Forms(w.tensor) {
						all, keys = append(all, f), append(keys, key)
					}
				}
				i := r.IntN(len(all))
				bit := r.IntN(8 * len(all[i].Bytes))
				all[i].Bytes[bit/8] ^= 1 << (bit % 8)
				var changed *ChangedError
				if err := b.CheckFrozen(t.Context()); !errors.As(err, &changed) || changed.Group != keys[i] {
					t.Errorf("seed %d: bit %d of %s (%s) flipped: %v", seed, bit, keys[i], all[i].Name, err)
				}
				all[i].Bytes[bit/8] ^= 1 << (bit % 8)
			}
			if err := b.CheckFrozen(t.Context()); err != nil || b.FrozenDigest() != digest {
				t.Errorf("put back: %v, digest %s, was %s", err, b.FrozenDigest(), digest)
			}
		})
	}
}

// Without Watch nothing is hashed.
func TestFrozenWeightsAreNotWatched(t *testing.T) {
	dev, err := cpu.New(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	c := Config{Preset: "tiny-diffusion", LoRA: &LoRAConfig{Rank: 2, Alpha: 4}}
	b, err := Load(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	m, err := New(b, dev, c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	if got := b.FrozenDigest(); got != "" {
		t.Errorf("FrozenDigest = %s, want none", got)
	}
}

func BenchmarkCheckFrozen(b *testing.B) {
	dev, err := cpu.New(1)
	if err != nil {
		b.Fatal(err)
	}
	defer dev.Close()
	mem, err := dev.Alloc(256 << 20)
	if err != nil {
		b.Fatal(err)
	}
	base := &Base{}
	base.Watch()
	base.remember(dev, "x", engine.Tensor{Rank: 1, Shape: [2]int{64 << 20}, Mem: mem, Frozen: true})
	b.SetBytes(256 << 20)
	for b.Loop() {
		if err := base.CheckFrozen(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
