package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// result is one line of a Go benchmark: its name without Benchmark and the number of processors, and its metrics by unit.
type result struct {
	name    string
	metrics map[string]float64
}

var cores = regexp.MustCompile(`-\d+$`)

// parse reads the benchmark lines of a test's output.
func parse(output string) (all []result) {
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		if _, err := strconv.Atoi(fields[1]); err != nil {
			continue
		}
		r := result{strings.TrimPrefix(cores.ReplaceAllString(fields[0], ""), "Benchmark"), map[string]float64{}}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				r.metrics[fields[i+1]] = v
			}
		}
		all = append(all, r)
	}
	return all
}

// benchmark runs the benchmarks that match, by a test binary, and returns their lines and the process's peak memory in
// bytes.
func benchmark(binary, match, benchtime string, env ...string) ([]result, int64, error) {
	cmd := exec.Command(binary, "-test.run", "^$", "-test.bench", match, "-test.benchtime", benchtime, "-test.benchmem", "-test.timeout", "20m")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	all := parse(string(out))
	if len(all) == 0 {
		return nil, 0, fmt.Errorf("%s: no benchmark ran:\n%s", cmd, out)
	}
	var peak int64
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		peak = u.Maxrss << 10
	}
	return all, peak, nil
}

// build makes the test binary of a package in dir. Its benchmarks then run in the package's folder's place, as go test
// runs them, but for the working folder, which none needs.
func build(dir, pkg string) (string, error) {
	binary := dir + "/" + strings.ReplaceAll(strings.TrimPrefix(pkg, "./"), "/", "_") + ".test"
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if out, err := exec.Command("go", "test", "-c", "-o", binary, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go test -c %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}

// progress tells on standard error what is being measured.
func progress(format string, args ...any) {
	fmt.Fprintf(io.Writer(os.Stderr), "  "+format+"\n", args...)
}
