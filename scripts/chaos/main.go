// Command chaos trains with a real fleet, three coordinators and three workers, all of them processes, while it kills,
// stops, partitions, slows, fills disks and flips bits, and proves that the run ends with the parameters of the same run
// undisturbed, each step committed once. It prints what each kind of fault cost: medians and 99th percentiles.
//
// As root it gives each process a network namespace of its own, so that machines are cut off each other in one direction or
// both; else everybody is on loopback and those faults are left out, which it says.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type options struct {
	faults       int
	limit        time.Duration
	seed         uint64
	kinds        string
	dir          string
	binary       string
	steps        int64
	coordinators int
	workers      int
	timeout      time.Duration
	loopback     bool
	keep         bool
}

func main() {
	var o options
	flag.IntVar(&o.faults, "faults", 2000, "faults of the soak")
	flag.DurationVar(&o.limit, "limit", 50*time.Minute, "no new fault after this; the run then ends undisturbed")
	flag.Uint64Var(&o.seed, "seed", 0, "seed of the schedule; 0 draws one")
	flag.StringVar(&o.kinds, "kinds", "", "kinds of faults, comma-separated; default all that this machine allows")
	flag.StringVar(&o.dir, "dir", "", "folder of the fleet's folders and logs; default a temporary one, removed when all is well")
	flag.StringVar(&o.binary, "binary", "", "the program; default: built from this checkout")
	flag.Int64Var(&o.steps, "steps", 0, "steps of the run; default two for each fault")
	flag.IntVar(&o.coordinators, "coordinators", 3, "coordinators")
	flag.IntVar(&o.workers, "workers", 3, "workers")
	flag.DurationVar(&o.timeout, "failure-timeout", time.Second, "cluster.failure_timeout")
	flag.BoolVar(&o.loopback, "loopback", false, "no network namespaces")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder")
	flag.Parse()
	if o.seed == 0 {
		o.seed = rand.Uint64()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := soak(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		fmt.Fprintf(os.Stderr, "chaos: again with: go run ./scripts/chaos %s\n", o.again())
		os.Exit(1)
	}
}

// again are the flags that repeat the schedule.
func (o options) again() string {
	flags := []string{fmt.Sprintf("-seed %d -faults %d -steps %d", o.seed, o.faults, o.steps)}
	if o.kinds != "" {
		flags = append(flags, "-kinds "+o.kinds)
	}
	if o.loopback {
		flags = append(flags, "-loopback")
	}
	return strings.Join(flags, " ")
}

func say(format string, a ...any) {
	fmt.Printf(time.Now().Format("15:04:05 ")+format+"\n", a...)
}
