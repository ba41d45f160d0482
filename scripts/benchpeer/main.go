// Benchpeer alternates our training step with the PyTorch peer's on the same token lengths and prints the median of
// the ratios in real tokens per second, with their spread and the FMA peak that the machine gave just then.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	python = flag.String("python", "python3", "Python with torch and numpy")
	work   = flag.String("work", ".", "folder with peer_step.py, peak and ours.test")
	rounds = flag.Int("rounds", 5, "alternations of each row")
	steps  = flag.Int("steps", 6, "timed steps of the peer in a round")
	only   = flag.String("only", "", "rows to run, such as tiny/lora,small/full; default all")
)

// rows of the table: the peer's size, mode and batch, as its README measures them.
var rows = []struct {
	size, mode string
	batch      int
}{{"tiny", "lora", 16}, {"tiny", "full", 16}, {"small", "lora", 8}, {"small", "full", 8}}

func main() {
	flag.Parse()
	fmt.Printf("%-12s %-10s %10s %10s %22s %14s\n", "size/mode", "layout", "ours", "torch", "ratio median (range)", "FMA peak now")
	for _, r := range rows {
		name := r.size + "/" + r.mode
		if *only != "" && !slices.Contains(strings.Split(*only, ","), name) {
			continue
		}
		if err := row(r.size, r.mode, r.batch); err != nil {
			fmt.Fprintln(os.Stderr, "benchpeer:", name+":", err)
			os.Exit(1)
		}
	}
}

// row alternates A, B1, B2, A, B1, B2: ours, the peer's sorted layout and its padded one. The bar is the faster.
func row(size, mode string, batch int) error {
	batches := filepath.Join(*work, size+".jsonl")
	common := []string{filepath.Join(*work, "peer_step.py"), "--size", size, "--mode", mode, "--batch", strconv.Itoa(batch), "--steps", strconv.Itoa(*steps)}
	if out, err := exec.Command(*python, append(common, "--batches", batches)...).CombinedOutput(); err != nil {
		return fmt.Errorf("peer writes its batches: %w\n%s", err, out)
	}
	var ours []float64
	var peaks []float64
	peer := map[string][]float64{}
	for range *rounds {
		mine, err := measureOurs(size, mode, batches)
		if err != nil {
			return err
		}
		ours = append(ours, mine)
		for _, layout := range []string{"sorted", "padded"} {
			rate, peak, err := measurePeer(append(common, "--layout", layout, "--json"))
			if err != nil {
				return err
			}
			peer[layout] = append(peer[layout], rate)
			peaks = append(peaks, peak...)
		}
	}
	layout := "sorted"
	if median(peer["padded"]) > median(peer["sorted"]) {
		layout = "padded"
	}
	var ratios []float64
	for i := range ours {
		ratios = append(ratios, ours[i]/peer[layout][i])
	}
	fmt.Printf("%-12s %-10s %10.0f %10.0f %10.2f (%.2f - %.2f) %8.0f GFLOP/s\n",
		size+"/"+mode, layout, median(ours), median(peer[layout]), median(ratios), slices.Min(ratios), slices.Max(ratios), median(peaks))
	return nil
}

var metric = regexp.MustCompile(`([0-9.]+) tokens/s`)

func measureOurs(size, mode, batches string) (float64, error) {
	cmd := exec.Command(filepath.Join(*work, "ours.test"), "-test.run", "^$", "-test.bench", "TrainStep/"+size+"/"+mode+"$", "-test.benchtime", fmt.Sprintf("%dx", *steps))
	cmd.Env = append(os.Environ(), "COUNTERPOINT_BATCHES="+batches)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("ours: %w\n%s", err, out)
	}
	m := metric.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("ours printed no tokens/s:\n%s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

func measurePeer(args []string) (rate float64, peak []float64, err error) {
	cmd := exec.Command(*python, args...)
	cmd.Env = append(os.Environ(), "OMP_WAIT_POLICY=ACTIVE")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, nil, fmt.Errorf("peer: %w", err)
	}
	var result struct {
		Rate float64   `json:"tok_s"`
		Peak []float64 `json:"peak_now"`
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &result); err != nil {
		return 0, nil, fmt.Errorf("peer printed %q: %w", out, err)
	}
	return result.Rate, result.Peak, nil
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}
