package bus

import "time"

// Timers all derive from failure_timeout.
type Timers struct {
	Ping  time.Duration // between pings of a connection; after three without an answer it is closed
	Write time.Duration // a connection that takes no bytes for this long is closed: far beyond what a busy machine needs
	Retry time.Duration // longest wait between attempts to connect again
}

// NewTimers derives the timers.
func NewTimers(failure time.Duration) Timers {
	return Timers{Ping: max(failure/5, 50*time.Millisecond), Write: 10 * max(failure, time.Second), Retry: failure}
}
