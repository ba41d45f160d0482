package worker

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkNodeStep is what a step costs besides its computation: leases, texts, rows, reports, sums, commits to the
// log on disk, over the embedded NATS server, all in one process. 9 shards a step.
func BenchmarkNodeStep(b *testing.B) {
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprint("W=", workers), func(b *testing.B) {
			o := newOffice(b, int64(b.N)+5)
			o.options.Run.Settings.CheckpointEvery, o.options.Run.Settings.EvaluateEvery = 0, 0
			o.pause = 0
			o.open()
			for i := range workers {
				o.hire(fmt.Sprint("w", i))
			}
			for o.steps() < 5 {
				time.Sleep(time.Millisecond)
			}
			b.ResetTimer()
			if err := <-o.done; err != nil {
				b.Fatal(err)
			}
			o.done <- nil
		})
	}
}
