package bus

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// serverLog passes the server's warnings and errors on; its notices say nothing that we do not. Fatalf must return:
// the library's own logger would end the process, for example when a port is taken.
type serverLog struct {
	log   *slog.Logger
	mu    sync.Mutex
	fatal error
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
	l.log.Error("nats server", "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Plaintext passwords") { // the system user's is random and never leaves this process
		return
	}
	l.log.Warn("nats server", "text", fmt.Sprintf(format, v...))
}

func (l *serverLog) Noticef(string, ...any) {}
func (l *serverLog) Debugf(string, ...any)  {}
func (l *serverLog) Tracef(string, ...any)  {}
