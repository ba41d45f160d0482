package backbone_test

import (
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: value %d = %v, want %v, the same bits", what, i, got[i], want[i])
			return
		}
	}
}

// TestPackingDoesNotShow embeds texts alone and packed, in any order, in arenas that other shapes have used, on one
// thread and on two, with activations kept or not: rows have the same bits, dropout included.
func TestPackingDoesNotShow(t *testing.T) {
	c := backbone.Config{
		Path: filepath.Join(golden.Dir(t, "backbones"), "qwen2"), Attention: backbone.Bidirectional,
		LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8, Dropout: 0.3},
	}
	t.Run(c.Attention, func(t *testing.T) { packingDoesNotShow(t, c) })
	c.Attention, c.AnnealSteps = backbone.Annealed, 11
	t.Run(c.Attention, func(t *testing.T) { packingDoesNotShow(t, c) })
}

func packingDoesNotShow(t *testing.T, c backbone.Config) {
	const seed = 9
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	one, two := model(t, device(t, 1), c, backbone.Options{Seed: 1}), model(t, device(t, 2), c, backbone.Options{Seed: 1})
	for _, m := range []*backbone.Model{one, two} {
		noise := gaussian(rand.New(rand.NewPCG(seed, 2)), len(m.Parameters()))
		for i := range noise {
			m.Parameters()[i] += 0.05 * noise[i]
		}
	}
	texts := someTexts(r, one.Architecture().Vocab, 1, 2, 17, 40, 5, 130, 64, 3)
	embed := func(m *backbone.Model, b backbone.Batch, keep int64) []float32 {
		t.Helper()
		rows, a, err := m.Embed(b, keep)
		if err != nil {
			t.Fatal(err)
		}
		if a != nil {
			a.Free()
		}
		return rows
	}
	batch := backbone.Batch{Texts: texts, Step: 4, Training: true}
	all, d := embed(one, batch, 0), one.Width()
	sameBits(t, "rows on two threads", embed(two, batch, 0), all)
	sameBits(t, "rows with activations kept", embed(one, batch, 1<<40), all)
	for i := range texts {
		alone := batch
		alone.Texts = texts[i : i+1]
		sameBits(t, "row of a text alone", embed(two, alone, int64(i%2)<<40), all[i*d:(i+1)*d])
	}
	sameBits(t, "rows again", embed(one, batch, 0), all)
	batch.Training = false
	if plain := embed(one, batch, 0); largestDifference(plain, all) == 0 {
		t.Error("dropout changes nothing")
	}
}

// TestWorkersShareWeights runs two models of one base at once, as two workers of a process do.
func TestWorkersShareWeights(t *testing.T) {
	c := backbone.Config{
		Path: filepath.Join(golden.Dir(t, "backbones"), "qwen2"), LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8},
	}
	base, err := backbone.Load(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	batch := backbone.Batch{Texts: someTexts(rand.New(rand.NewPCG(1, 1)), base.Architecture.Vocab, 30, 50)}
	var rows [2][]float32
	var wg sync.WaitGroup
	for i := range rows {
		dev, err := cpu.New(1)
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		wg.Go(func() {
			m, err := backbone.New(base, dev, c, backbone.Options{Seed: 1})
			if err != nil {
				t.Error(err)
				return
			}
			for range 3 {
				if rows[i], _, err = m.Embed(batch, 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	sameBits(t, "rows of the second worker", rows[1], rows[0])
}

// TestSteadyState holds the promise that a step does not allocate by the size of its activations.
func TestSteadyState(t *testing.T) {
	m := model(t, device(t, 1), backbone.Config{Preset: "tiny-diffusion", LoRA: &backbone.LoRAConfig{Rank: 8, Alpha: 16}}, backbone.Options{})
	batch := backbone.Batch{Texts: someTexts(rand.New(rand.NewPCG(1, 1)), m.Architecture().Vocab, 30, 50, 20), Training: true}
	grad := make([]float32, len(m.Parameters()))
	step := func() {
		rows, a, err := m.Embed(batch, 1<<40)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Free()
		if err := m.EmbedBackward(batch, rows, grad, a); err != nil {
			t.Fatal(err)
		}
	}
	step()
	_, kept, err := m.Bytes(100, 3)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, step); n > 400 {
		t.Errorf("a warm step allocates %v times", n)
	} else {
		t.Logf("a warm step allocates %v times; its activations are %d bytes", n, kept)
	}
}
