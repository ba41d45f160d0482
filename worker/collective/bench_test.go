package collective

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// BenchmarkReduce sums 4 Mi parameters of about 40 bits over W workers in one process, without a network: packing,
// adding and checking. Bytes are those of the parameters as float32.
func BenchmarkReduce(b *testing.B) {
	const size = 4 << 20
	for _, workers := range []int{1, 2, -2, 4} {
		name := fmt.Sprint("W=", workers)
		inside := workers < 0
		if inside {
			workers = -workers
			name = fmt.Sprint("in process/W=", workers)
		}
		b.Run(name, func(b *testing.B) {
			n := &network{rng: rand.New(rand.NewPCG(1, 1)), groups: map[string]*Group{}}
			var names []string
			cover := map[string][]int{}
			groups, sums := make([]*Group, workers), make([]*fixed.Sum, workers)
			for w := range workers {
				names = append(names, fmt.Sprint("w", w))
				cover[names[w]] = []int{w}
				groups[w] = New("run", quiet{n}, Options{})
				if inside {
					groups[w] = New("run", near{n}, Options{})
				}
				n.groups[names[w]] = groups[w]
				sums[w] = fixed.NewSum([]int32{30}, size)
				for i := range sums[w].Values {
					sums[w].Values[i] = n.rng.Int64() >> 24
				}
			}
			c := closing(1, size, cover, names...)
			b.SetBytes(4 * size)
			round := int64(0)
			for b.Loop() {
				round++
				var all sync.WaitGroup
				for w := range workers {
					all.Go(func() {
						step := Step{Self: names[w], Round: round, Size: size, Closing: c, Others: names}
						if _, err := groups[w].Reduce(b.Context(), step, sums[w]); err != nil {
							b.Error(err)
						}
					})
				}
				all.Wait()
				for _, g := range groups {
					g.Release(round+1, true)
				}
			}
		})
	}
}
