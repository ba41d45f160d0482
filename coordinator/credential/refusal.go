package credential

import (
	"log/slog"
	"maps"
	"sync"
	"time"
)

// Reason is why somebody was refused. They are few, so that counting by reason is bounded whatever comes in.
type Reason string

// The reasons.
const (
	NoCertificate   Reason = "no certificate"
	UnknownCA       Reason = "unknown CA"
	Expired         Reason = "expired certificate"
	NotYetValid     Reason = "certificate not yet valid"
	WrongRole       Reason = "wrong role"
	WrongName       Reason = "certificate for another name"
	BadCertificate  Reason = "bad certificate"
	NoTLS           Reason = "not TLS 1.3"
	HandshakeFailed Reason = "handshake failed"
	HandshakeSlow   Reason = "handshake timeout"
	TooManyBytes    Reason = "too many bytes before authentication"
	TooMany         Reason = "too many connections"
	TooManyAddress  Reason = "too many connections of one address"
	BadSignature    Reason = "bad signature"
	NotAdmitted     Reason = "not admitted"
	NotPermitted    Reason = "not permitted"
	BadToken        Reason = "bad token"
	TokenExpired    Reason = "token expired"
	TokenReplayed   Reason = "token used up"
	Malformed       Reason = "malformed frame"
	Oversized       Reason = "oversized frame"
)

// quiet is how long further refusals for one reason are only counted after one was logged: a stranger who knocks
// without end does not fill the disk.
const quiet = time.Second

// Refusals counts what was refused, by reason, and names it in the log. The zero value counts; it may be used by many
// goroutines, and a nil one does nothing.
type Refusals struct {
	Log *slog.Logger // nil = none

	mu     sync.Mutex
	counts map[string]int64
	logged map[Reason]time.Time
	unsaid map[Reason]int64
}

// Add counts one refusal. who is where it came from, an address or a name; why is shown in the log.
func (r *Refusals) Add(reason Reason, who string, why error) {
	if r == nil {
		return
	}
	r.mu.Lock()
	if r.counts == nil {
		r.counts, r.logged, r.unsaid = map[string]int64{}, map[Reason]time.Time{}, map[Reason]int64{}
	}
	r.counts[string(reason)]++
	now := time.Now()
	if now.Sub(r.logged[reason]) < quiet {
		r.unsaid[reason]++
		r.mu.Unlock()
		return
	}
	unsaid := r.unsaid[reason]
	r.logged[reason], r.unsaid[reason] = now, 0
	log := r.Log
	r.mu.Unlock()
	if log == nil {
		return
	}
	fields := []any{"reason", string(reason), "from", who}
	if why != nil {
		fields = append(fields, "error", why)
	}
	if unsaid > 0 {
		fields = append(fields, "more_before", unsaid)
	}
	log.Warn("refused", fields...)
}

// Counts returns how many were refused, by reason.
func (r *Refusals) Counts() map[string]int64 {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

// RefusedError is a refusal with its reason.
type RefusedError struct {
	Reason Reason
	Err    error
}

// Error says why in words.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }
