package evaluate

import (
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// randomSite is the site of random embeddings among the users of Philox ("rand").
const randomSite = 0x72616e64

// randomWidth is the width of the random embeddings of Random.
const randomWidth = 256

// RandomRows returns embeddings [n, width] that know nothing of their texts, for the row of a table that says what
// chance scores. Each value is the sum of eight 16-bit numbers about 0, so nearly normal, and the same on every
// machine: integers until the last step, which is exact. Row i does not depend on n.
func RandomRows(n, width int, seed uint64) []float32 {
	out := make([]float32, 0, n*width)
	key := philox.NewKey(seed, randomSite)
	for row := range n {
		for column := range width {
			sum := int32(-8 * 0xffff / 2)
			for _, w := range philox.Block(key, philox.At(0, uint32(row), 0, uint32(column))) {
				sum += int32(w&0xffff) + int32(w>>16)
			}
			out = append(out, float32(sum)/(1<<16))
		}
	}
	return out
}

// Random scores random embeddings of a suite of so many texts: the row that any model should beat.
func Random(sheet *data.Sheet, slots int, seed uint64) (map[string]float64, error) {
	return Score(sheet, RandomRows(slots, randomWidth, seed), randomWidth)
}
