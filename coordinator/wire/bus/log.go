package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
)

// serverLog passes the server's warnings and errors on; its notices say nothing that we do not. Fatalf must return:
// the library's own logger would end the process, for example when a port is taken.
type serverLog struct {
	log      *slog.Logger
	refusals *credential.Refusals
	mu       sync.Mutex
	fatal    error

	routes atomic.Bool // a route that cannot be made was spoken of
}

// Fatal returns what Fatalf was called with.
func (l *serverLog) Fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	l.fatal = fmt.Errorf(format, v...)
	l.mu.Unlock()
	l.log.Error("nats server", "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	if strings.HasPrefix(format, "Error trying to connect to route") && l.routes.Swap(true) {
		return // said once: a coordinator that is down is tried all the time, and the leader says who is gone
	}
	text := unquoted(fmt.Sprintf(format, v...))
	if l.count(text, v) {
		return
	}
	l.log.Error("nats server", "text", text)
}

// Debugf is called when everybody has to show a certificate: the server tells only here of those who say nothing.
func (l *serverLog) Debugf(format string, v ...any) {
	switch {
	case strings.HasSuffix(format, "TLS handshake timeout"), strings.HasSuffix(format, "Authentication Timeout"):
		l.refusals.Add(credential.HandshakeSlow, origin(format), errors.New("the handshake was not done in time"))
	case strings.Contains(format, "TLS handshake error: "): // what probes do: connect and leave
		l.count(unquoted(fmt.Sprintf(format, v...)), v)
	}
}

// count counts a line of the server that tells of a refusal, and reports whether it was one.
func (l *serverLog) count(text string, v []any) bool {
	from, why, _ := strings.Cut(text, " - ")
	reason := credential.Reason("")
	switch {
	case strings.Contains(text, "TLS handshake error: "):
		for _, a := range v {
			var refused *credential.RefusedError
			if err, ok := a.(error); ok && errors.As(err, &refused) {
				return true // counted where it was refused
			}
		}
		reason = credential.HandshakeFailed
		switch {
		case strings.Contains(text, "i/o timeout"):
			reason = credential.HandshakeSlow
		case strings.Contains(text, "use of closed network connection"):
			return true // closed by the timeout, which is counted
		case strings.HasSuffix(text, "EOF"), strings.Contains(text, "connection reset by peer"):
			return true // connected and left
		case strings.Contains(text, "does not look like a TLS handshake"), strings.Contains(text, "unsupported versions"):
			reason = credential.NoTLS
		}
	case strings.Contains(text, " Violation - "):
		reason = credential.NotPermitted
	case strings.Contains(text, "authentication error"):
		return true // counted by the door
	case strings.Contains(text, "maximum payload exceeded"), strings.Contains(text, "maximum control line exceeded"):
		reason = credential.Oversized
	case strings.Contains(text, "parser ERROR"):
		reason = credential.Malformed
	case strings.Contains(text, "maximum connections exceeded"):
		reason = credential.TooMany
	default:
		return false
	}
	l.refusals.Add(reason, from, errors.New(why))
	return l.refusals != nil
}

// origin is the connection in front of a line: address and number.
func origin(text string) string {
	from, _, _ := strings.Cut(text, " - ")
	return from
}

// unquoted cuts a line where it would show what a client sent: it may be a secret.
func unquoted(text string) string {
	for _, mark := range []string{"proto='", "(snip: "} {
		if i := strings.Index(text, mark); i >= 0 {
			return strings.TrimRight(text[:i], " :") + " [not shown]"
		}
	}
	return text
}

func (l *serverLog) Warnf(format string, v ...any) {
	for _, known := range []string{
		"Plaintext passwords",           // the system user's is random and never leaves this process
		"Clients that are not using \"", // TLS comes first on purpose
	} {
		if strings.HasPrefix(format, known) {
			return
		}
	}
	l.log.Warn("nats server", "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Noticef(string, ...any) {}
func (l *serverLog) Tracef(string, ...any)  {}
