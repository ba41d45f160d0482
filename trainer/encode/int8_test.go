package encode

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/isa"
)

// openInt8 opens a folder on a device that rounds; whatever the comparison finds goes to found.
func openInt8(t *testing.T, dir string, least float64, threads int, found *Agreement) *Encoder {
	t.Helper()
	exact, err := cpu.New(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(exact.Close)
	dev, err := cpu.NewInt8(threads)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	e, err := Open(t.Context(), dir, dev, Options{Compare: &Comparison{Device: exact, Least: least, Report: func(a Agreement) { *found = a }}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func sample(e *Encoder, n int) (texts []data.Text) {
	r := rand.New(rand.NewPCG(7, 7))
	words := strings.Fields("the wing of a bird lifts it over cold water; def main(x): return 42, naïve façade 東京 kernel panic at boundary layer")
	for range n {
		var b strings.Builder
		for range 1 + r.IntN(40) {
			b.WriteString(words[r.IntN(len(words))] + " ")
		}
		text, _ := e.Tokenize("", b.String())
		texts = append(texts, text)
	}
	return texts
}

// TestGoldenInt8 embeds with every family of the goldens in 8 bits: near the exact vectors, compared once, on 32 texts at
// most, and with the same bits for any number of threads.
func TestGoldenInt8(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(golden.Dir(t, "sentence-transformers"), "*", "modules.json"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no folders (%v)", err)
	}
	for _, dir := range dirs {
		dir = filepath.Dir(dir)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var one, two Agreement
			e := openInt8(t, dir, 0.999, 1, &one)
			texts := sample(e, 40)
			rows, err := e.Embed(t.Context(), texts)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("cosine %.5f on average, %.5f at least", one.Mean, one.Least)
			if one.Texts != comparedTexts {
				t.Errorf("compared %d texts, want %d", one.Texts, comparedTexts)
			}
			if !strings.Contains(e.Numerics, "int8") {
				t.Errorf("Numerics = %q, want one that names int8", e.Numerics)
			}
			other := openInt8(t, dir, 0.999, 2, &two)
			again, err := other.Embed(t.Context(), texts)
			if err != nil {
				t.Fatal(err)
			}
			for i := range rows {
				if rows[i] != again[i] {
					t.Fatalf("value %d with two threads = %v, with one %v", i, again[i], rows[i])
				}
			}
			one = Agreement{}
			if _, err := e.Embed(t.Context(), texts[:3]); err != nil || one.Texts != 0 {
				t.Errorf("a second Embed compared %d texts (%v), want none", one.Texts, err)
			}
		})
	}
}

// TestInt8Refuses: below the cosine that is asked for there are no vectors.
func TestGoldenInt8Refuses(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(golden.Dir(t, "sentence-transformers"), "*", "modules.json"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no folders (%v)", err)
	}
	var found Agreement
	e := openInt8(t, filepath.Dir(dirs[0]), 1, 2, &found)
	if _, err := e.Embed(t.Context(), sample(e, 8)); err == nil || !strings.Contains(err.Error(), "cosine") {
		t.Errorf("Embed() with a cosine of 1 asked for: %v, want an error that names the cosine (%+v)", err, found)
	}
}

func TestAgree(t *testing.T) {
	a := Agree([]float32{1, 0, 0, 1, 0, 0}, []float32{1, 0, 1, 0, 0, 0}, 2)
	if a.Texts != 3 || a.Least != 0 || a.Mean < 0.66 || a.Mean > 0.67 {
		t.Errorf("Agree() = %+v, want 3 texts with the cosines 1, 0 and 1", a)
	}
}

// The portable and the vectorised products of 8 bits are the same bits, so what is left between levels is float32's.
func TestInt8Levels(t *testing.T) {
	s := shape{"tiny", 64, 2, 2, 1, 96, 300, 4, true, 32}
	var first []float32
	for _, level := range isa.Available() {
		isa.Use(t, level)
		dev, err := cpu.NewInt8(2)
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		e := s.encoder(t, dev)
		defer e.Close()
		rows, err := e.Embed(t.Context(), []data.Text{{Tokens: []int32{1, 2, 3, 250}}, {Tokens: []int32{9}}})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = rows
		}
		if a := Agree(rows, first, s.d); a.Least < 0.99999 {
			t.Errorf("%s: cosine to %s %v, want 1 but for rounding", level, isa.Available()[0], a.Least)
		}
	}
}
