package consensus

import (
	"context"
	"io"
	"log/slog"
	"strings"

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
	for _, p := range quietBeginnings {
		if strings.HasPrefix(msg, p) {
			return
		}
	}
	to := slog.LevelWarn
	if level >= hclog.Error {
		to = slog.LevelError
	}
	s.to.Log(context.Background(), to, "raft: "+msg, append(args, "part", name)...)
}

// quietBeginnings are of what Raft says many times a second about a member that is gone, and of what elections are made
// of; the leader says once who is gone and who is back.
var quietBeginnings = []string{
	"failed to heartbeat to", "failed to appendEntries to", "failed to pipeline appendEntries", "failed to contact", "failed to make requestVote RPC",
	"rejecting pre-vote request", "rejecting vote request since we have a leader", "failed to decode incoming command", "failed to flush response",
	"failed to get previous log", "failed to send snapshot to",
}

// quiet are warnings about what is normal for a single voter.
var quiet = map[string]bool{
	"heartbeat timeout reached, starting election":                                                                   true,
	"no known peers, aborting election":                                                                              true,
	"Election timeout reached, restarting election":                                                                  true,
	"not part of stable configuration, aborting election":                                                            true,
	"heartbeat timeout reached, not part of a stable configuration or a non-voter, not triggering a leader election": true,
}
