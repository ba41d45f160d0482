package main

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	soakFaults = flag.Int("soak.faults", 8, "faults of TestSoak; `make soak` does 2,000")
	soakSeed   = flag.Uint64("soak.seed", 0, "seed of the schedule; 0 draws one and prints it")
)

// TestSoak is the short form of `make soak`: a real fleet of processes, a few faults, the parameters of the undisturbed run.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	o := options{
		faults: *soakFaults, seed: *soakSeed, steps: int64(6 * *soakFaults), limit: time.Minute, coordinators: 3, workers: 3, timeout: time.Second, dir: t.TempDir(),
	}
	if o.seed == 0 {
		o.seed = rand.Uint64()
	}
	t.Logf("seed %d: go test ./scripts/chaos -run TestSoak -soak.seed %d -soak.faults %d", o.seed, o.seed, o.faults)
	if err := soak(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}
