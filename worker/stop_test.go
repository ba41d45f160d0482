package worker

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// A run is stopped at random moments: before a worker is ready, in evaluations, in repeated attempts, twice in a row. It
// pauses in the time of a round, goes on when it is resumed, and the ledger is the undisturbed one.
func TestNodeStopsAtAnyMoment(t *testing.T) {
	for _, language := range []bool{false, true} {
		t.Run(fmt.Sprint("language=", language), func(t *testing.T) {
			leaks(t)
			r := rand.New(rand.NewPCG(seeded(t), 5))
			o := newOffice(t, 60)
			o.options.Feed = toyFeed{Language: language}
			o.options.Resume = true
			o.change = append(o.change, func(t *toy) { t.Erratic, t.Language = 2, language })
			for life := 0; ; life++ {
				o.open()
				for i := range r.IntN(4) {
					o.hire(fmt.Sprint("w", life, "-", i))
				}
				if life > 12 {
					o.hire("last")
					break
				}
				time.Sleep(time.Duration(r.IntN(120)) * time.Millisecond)
				stopped := time.Now()
				o.node.Stop("test")
				if r.IntN(3) == 0 {
					o.node.Stop("again")
				}
				select {
				case err := <-o.done:
					o.done <- err
					if err != nil && !strings.Contains(err.Error(), "run is paused") {
						t.Fatal(err)
					}
				case <-time.After(4 * officeTimeout):
					t.Fatalf("life %d: not paused %v after Stop: %+v", life, time.Since(stopped), o.node.State().Runs[0])
				}
				o.close()
			}
			o.check()
		})
	}
}

// Two workers whose parameters differ: nobody can say who is right, so the run pauses and names both. Resumed, the step is
// executed again from the newest checkpoint, and the ledger has what is right.
func TestNodeTwoDisagree(t *testing.T) {
	leaks(t)
	o := newOffice(t, 40)
	o.options.Resume = true
	o.open()
	o.hire("right")
	o.hire("wrong", func(t *toy) { t.Corrupt = 29 })
	select {
	case err := <-o.done:
		o.done <- err
		if err == nil || !strings.Contains(err.Error(), "run is paused after 29 steps: step 30: workers disagree") || !strings.Contains(err.Error(), "right-") || !strings.Contains(err.Error(), "wrong-") {
			t.Fatalf("the run ended with %v, want paused, naming the workers", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no end after 20 s")
	}
	o.close()
	o.open()
	o.hire("right")
	o.hire("wrong")
	o.check()
}
