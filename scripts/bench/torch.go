package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// variant is one of the ways to run the peer; the bar is the fastest.
type variant struct{ layout, wait string }

var variants = []variant{{"sorted", "ACTIVE"}, {"padded", "ACTIVE"}, {"sorted", "PASSIVE"}}

func (v variant) String() string {
	if v.wait == "PASSIVE" {
		return v.layout + ", passive"
	}
	return v.layout
}

// measured is what peer_step.py prints.
type measured struct {
	Rate   float64   `json:"tok_s"`
	Peaks  []float64 `json:"peak_now"` // before and after
	Linear float64   `json:"n_linear_M"`
	Memory float64   `json:"rss_MB"`
	Torch  string    `json:"torch"`
}

// torch calls the peer for a row.
func (o options) torch(row peerRow, steps int, extra ...string) *exec.Cmd {
	args := append([]string{filepath.Join(o.work, "peer_step.py"), "--size", row.size, "--steps", strconv.Itoa(steps)}, row.args...)
	return exec.Command(o.python, append(args, extra...)...)
}

// lengths writes the token ids of the row's timed steps to a file.
func (o options) lengths(row peerRow, steps int) (string, error) {
	path := filepath.Join(o.work, strings.ReplaceAll(row.name, " ", "-")+".jsonl")
	if out, err := o.torch(row, steps, "--batches", path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("the peer writes its batches: %w\n%s", err, out)
	}
	return path, nil
}

// measure runs the peer once.
func (o options) measure(row peerRow, steps int, v variant, extra ...string) (measured, error) {
	cmd := o.torch(row, steps, append([]string{"--layout", v.layout, "--json"}, extra...)...)
	cmd.Env = append(os.Environ(), "OMP_WAIT_POLICY="+v.wait)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return measured{}, fmt.Errorf("%s: %w\n%s", cmd, err, errs.String())
	}
	var m measured
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := strings.ReplaceAll(lines[len(lines)-1], "NaN", "null") // Python's JSON; an encode has no loss
	if err := json.Unmarshal([]byte(last), &m); err != nil {
		return m, fmt.Errorf("the peer printed %q: %w", out, err)
	}
	return m, nil
}

// peak is the FMA peak of two threads just now in GFLOP/s, by peak.c; 0 where it was not built.
func (o options) peak() float64 {
	out, err := exec.Command(filepath.Join(o.work, "peak"), "2", "1").Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 8 {
		return 0
	}
	v, _ := strconv.ParseFloat(fields[7], 64) // 0 of what is no number
	return v
}
