package tokenize

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestWholeChars: beginning with characters gives the ids of beginning with bytes, on words of the alphabets that have
// tokens, of mixtures, and of the characters beside which seams are dirty.
func TestWholeChars(t *testing.T) {
	seed := rand.Uint64()
	for _, name := range []string{"qwen3", "llama3", "gpt2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			m := openReal(t, name).model
			if m.wholeChars == nil {
				t.Fatal("wholeChars = nil, want it for a vocabulary with all bytes")
			}
			var known, beside []string
			for r, id := range m.wholeChars.ids {
				if id >= 0 {
					known = append(known, string(rune(r)))
				}
			}
			for _, seams := range m.wholeChars.seams {
				for _, s := range seams {
					beside = append(beside, s.before, s.behind)
				}
			}
			blocks := [][2]rune{{0x20, 0x7f}, {0xa0, 0x250}, {0x3b0, 0x530}, {0x5d0, 0x6ff}, {0x900, 0xdff}, {0xe00, 0xe80}, {0x3040, 0x3100}, {0x4e00, 0x9fff}, {0xac00, 0xd7a3}, {0xff00, 0xffef}, {0x1f300, 0x1faff}}
			dirty, words := 0, 60_000
			for range words {
				var b strings.Builder
				block := blocks[random.IntN(len(blocks))]
				for range 1 + random.IntN(20) {
					switch random.IntN(8) {
					case 0:
						b.WriteString(known[random.IntN(len(known))])
					case 1:
						other := blocks[random.IntN(len(blocks))]
						b.WriteRune(other[0] + random.Int32N(other[1]-other[0]))
					case 2: // complete what is beside a dirty seam
						part := beside[random.IntN(len(beside))]
						if part[0] >= 0xe1 && part[0] < 0xf0 {
							for len(part) < 3 {
								part += string([]byte{byte(0x80 + random.IntN(64))})
							}
						}
						b.WriteString(strings.ToValidUTF8(part, "我"))
					default:
						b.WriteRune(block[0] + random.Int32N(block[1]-block[0]))
					}
				}
				w := b.String()
				units := m.byteUnits(nil, w)
				want := slices.Clone(units[:m.mergeLong(units)])
				units = m.wholeChars.units(nil, m.bytes, w)
				if got := units[:m.mergeLong(units)]; !slices.Equal(got, want) {
					t.Fatalf("seed %d: ids of %q = %v, want %v as from bytes", seed, w, got, want)
				}
				for i := range w {
					if !m.wholeChars.clean(w, i) {
						dirty++
						break
					}
				}
			}
			t.Logf("seed %d: %d characters, %d of %d words with a dirty seam", seed, len(known), dirty, words)
			if dirty == 0 || len(known) < 200 {
				t.Errorf("%d words with a dirty seam and %d known characters, want more of both", dirty, len(known))
			}
		})
	}
}
