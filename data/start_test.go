package data_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/golden"
	"github.com/counterpoint-ml/counterpoint/data/tokenize/tiny"
)

// BenchmarkStart opens a large source for the first and for the second time, and reads every shard of 50 batches.
func BenchmarkStart(b *testing.B) {
	path := os.Getenv("COUNTERPOINT_BENCH_SOURCE")
	if path == "" {
		path = filepath.Join(golden.Data(b, "debian-packages"), "train.jsonl.gz")
	}
	tok, err := tiny.Open()
	if err != nil {
		b.Fatal(err)
	}
	var took [4]time.Duration
	for b.Loop() {
		cache := b.TempDir()
		for i := range 2 {
			start := time.Now()
			s, err := data.Open([]data.Source{{Path: path}}, data.Order{Batch: 64, HardNegatives: 1, MaxLength: 256}, tok, cache, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			took[2*i] += time.Since(start)
			start = time.Now()
			for step := range int64(50) {
				batch, err := s.Batch(step)
				if err != nil {
					b.Fatal(err)
				}
				for j := range batch.Header.Tokens {
					if _, err := batch.Shard(j); err != nil {
						b.Fatal(err)
					}
				}
			}
			took[2*i+1] += time.Since(start)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	for i, name := range []string{"ms/first-open", "ms/first-50-batches", "ms/second-open", "ms/second-50-batches"} {
		b.ReportMetric(took[i].Seconds()*1000/float64(b.N), name)
	}
}
