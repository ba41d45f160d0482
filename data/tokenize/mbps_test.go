package tokenize

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// textFile is the environment variable that names a text file for BenchmarkText, and tokenizerFolder a tokenizer's
// folder: what scripts/bench-tokenizer.sh compares with the reference on the same lines.
const (
	textFile        = "COUNTERPOINT_BENCH_TEXT"
	tokenizerFolder = "COUNTERPOINT_BENCH_TOKENIZER"
)

// BenchmarkText encodes the texts of a file (NUL between them), one by one on one core, and prints MB per second of
// processor time, which other processes disturb less than time. Each pass begins without cached words.
func BenchmarkText(b *testing.B) {
	path, dir := os.Getenv(textFile), os.Getenv(tokenizerFolder)
	if path == "" || dir == "" {
		b.Skipf("%s and %s name a text file and a tokenizer's folder", textFile, tokenizerFolder)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	tok, err := Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(content), "\x00"), "\x00")
	size, tokens := 0, 0
	for _, line := range lines {
		size += len(line)
	}
	var ids []int32
	b.SetBytes(int64(size))
	start := processorTime(b)
	for b.Loop() {
		tokens = 0
		tok.model.cache = newWordCache()
		for _, line := range lines {
			ids = tok.Encode(ids[:0], line)
			tokens += len(ids)
		}
	}
	b.ReportMetric(float64(size)*float64(b.N)/1e6/(processorTime(b)-start).Seconds(), "MB/cpu-s")
	b.ReportMetric(float64(tokens), "tokens")
}

func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
