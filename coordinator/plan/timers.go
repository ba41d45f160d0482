package plan

import (
	"fmt"
	"time"
)

// Timers all derive from the one knob, failure_timeout.
type Timers struct {
	Failure time.Duration // the knob: a hung worker is known by then
	Beat    time.Duration // between a worker's heartbeats
	Silence time.Duration // a worker not heard for this long is lost
	Blip    time.Duration // a connection that is gone may come back within this
	Tick    time.Duration // between looks at the clock
	Grace   time.Duration // after which nobody is waited for who may still hold the newest parameters
	Stall   time.Duration // a closing in flight for this long is repeated under a higher number
	Late    time.Duration // a shard is late when this passes beyond three times what it should take
	Steal   time.Duration // work that is expected to take less is not worth moving
}

// Bounds of failure_timeout.
const (
	MinFailureTimeout = 100 * time.Millisecond
	MaxFailureTimeout = 10 * time.Minute
)

// NewTimers derives the timers and checks that they nest: three beats may be lost before silence is loss, and silence
// is noticed within the failure timeout.
func NewTimers(failure time.Duration) (Timers, error) {
	t := Timers{
		Failure: failure,
		Beat:    failure / 5,
		Silence: failure * 8 / 10,
		Blip:    min(failure/10, 100*time.Millisecond),
		Tick:    failure / 20,
		Grace:   2 * failure,
		Stall:   30 * failure,
		Late:    failure,
		Steal:   failure / 5,
	}
	if failure < MinFailureTimeout || failure > MaxFailureTimeout {
		return t, fmt.Errorf("failure_timeout %v: %v to %v is allowed", failure, MinFailureTimeout, MaxFailureTimeout)
	}
	for _, p := range []struct {
		inner string
		a     time.Duration
		outer string
		b     time.Duration
	}{
		{"3 x worker beat + tick", 3*t.Beat + t.Tick, "worker silence", t.Silence},
		{"worker silence + 2 x tick", t.Silence + 2*t.Tick, "failure_timeout", failure},
		{"connection blip + tick", t.Blip + t.Tick, "200ms or 2 x tick", max(200*time.Millisecond, 2*t.Tick)},
	} {
		if p.a > p.b {
			return t, fmt.Errorf("failure_timeout %v: %s %v does not fit into %s %v", failure, p.inner, p.a, p.outer, p.b)
		}
	}
	return t, nil
}
