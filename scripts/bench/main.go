// Bench prints figures beside their bars: `bench limits` ours against what this machine can do, `bench peer` ours against
// the PyTorch peer in peer/, alternating, both by the repository's own Go benchmarks; `bench fleet` one worker against two.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("limits, peer or fleet is allowed (-h after it lists flags)")
	}
	f := flag.NewFlagSet("bench "+args[0], flag.ExitOnError)
	o := options{}
	f.StringVar(&o.only, "only", "", "rows whose names contain one of these, comma-separated; default all")
	f.StringVar(&o.json, "json", "", "file for every figure of the run")
	f.StringVar(&o.markdown, "markdown", "", "file for the table")
	switch args[0] {
	case "limits":
		f.StringVar(&o.benchtime, "benchtime", "200ms", "time of a repetition's benchmark")
	case "peer":
		f.StringVar(&o.python, "python", "python3", "Python with torch and numpy")
		f.StringVar(&o.work, "work", ".", "folder with peer_step.py, peak and the test binaries")
		f.IntVar(&o.rounds, "rounds", 5, "alternations of each row between which the peak held")
		f.IntVar(&o.steps, "steps", 0, "timed steps in a round; 0 = as many as suit the row")
		f.BoolVar(&o.compile, "compile", true, "measure the peer once with torch.compile too")
	case "fleet":
		f.IntVar(&o.rounds, "rounds", 3, "alternations")
		f.StringVar(&o.model, "model", "", "model folder")
		f.StringVar(&o.suite, "suite", "", "set in BEIR layout")
		f.IntVar(&o.documents, "documents", 200, "of the set, the first")
	case "probe":
		probe()
		return nil
	default:
		return fmt.Errorf("%q; limits, peer or fleet is allowed", args[0])
	}
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "limits":
		return limits(o)
	case "fleet":
		return fleet(o)
	}
	return peer(o)
}

type options struct {
	only, json, markdown, benchtime string
	python, work                    string
	rounds, steps                   int
	compile                         bool
	model, suite                    string
	documents                       int
}

// wants tells whether -only names the row.
func (o options) wants(name string) bool {
	if o.only == "" {
		return true
	}
	for part := range strings.SplitSeq(o.only, ",") {
		if strings.Contains(name, strings.TrimSpace(part)) {
			return true
		}
	}
	return false
}
