package consensus

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// newLogger passes Raft's warnings and errors to ours: its information repeats what the coordinator says better.
func newLogger(to *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Warn, Output: io.Discard})
	l.RegisterSink(sink{to})
	return l
}

type sink struct{ to *slog.Logger }

func (s sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	if level < hclog.Warn || quiet[msg] {
		return
	}
	to := slog.LevelWarn
	if level >= hclog.Error {
		to = slog.LevelError
	}
	s.to.Log(context.Background(), to, "raft: "+msg, append(args, "part", name)...)
}

// quiet are warnings about what is normal for a single voter.
var quiet = map[string]bool{
	"heartbeat timeout reached, starting election": true,
	"no known peers, aborting election":            true,
}
