package encode

import (
	"math"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

// TestLongText: a text far beyond a batch is embedded alone, and the memory that is planned for its activations is
// linear in its length: the scores of attention, which are not, are never there.
func TestLongText(t *testing.T) {
	s := shape{"tiny", 32, 1, 2, 1, 64, 300, 1, true, 32}
	length := 32768
	if testing.Short() {
		length = 8192
	}
	for name, open := range map[string]func(int) (*cpu.Device, error){"fp32": cpu.New, "int8": cpu.NewInt8} {
		dev, err := open(2)
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		e := s.encoder(t, dev)
		defer e.Close()
		planned := func(n int) float64 {
			bytes, _, err := e.model.Bytes(n, 1)
			if err != nil {
				t.Fatal(err)
			}
			return float64(bytes)
		}
		for n := 1024; n <= 1<<17; n *= 2 {
			if ratio := planned(2*n) / planned(n); ratio > 2.01 {
				t.Errorf("%s: %d tokens take %.3f times the memory of %d, want twice", name, 2*n, ratio, n)
			}
		}
		short, long := data.Text{Tokens: []int32{5, 6, 7}}, data.Text{Tokens: make([]int32, length)}
		for i := range long.Tokens {
			long.Tokens[i] = int32(i * 17 % s.vocab)
		}
		rows, err := e.Embed(t.Context(), []data.Text{long, short})
		if err != nil {
			t.Fatal(err)
		}
		alone, err := e.Embed(t.Context(), []data.Text{short})
		if err != nil {
			t.Fatal(err)
		}
		norm := 0.0
		for i := range s.d {
			norm += float64(rows[i]) * float64(rows[i])
			if rows[s.d+i] != alone[i] {
				t.Fatalf("%s: value %d of the text beside a long one = %v, alone %v", name, i, rows[s.d+i], alone[i])
			}
		}
		if !(math.Abs(norm-1) < 1e-5) {
			t.Errorf("%s: the embedding of %d tokens has the square %v, want 1", name, length, norm)
		}
	}
}
