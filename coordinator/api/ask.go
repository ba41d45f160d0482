package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// ask sends a question to whoever leads and waits for the answer. An election is waited out: nobody answers for that
// long only if no majority of the coordinators is up. Every question may be asked twice.
func ask[Reply any](ctx context.Context, s *Server, subject string, question any) (*Reply, error) {
	return askFor[Reply](ctx, s, s.patience, subject, question)
}

func askFor[Reply any](ctx context.Context, s *Server, patience time.Duration, subject string, question any) (*Reply, error) {
	began := time.Now()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, s.o.FailureTimeout/4) {
		// A leader that is lost while it thinks never answers, so one try takes no longer than it takes to lose it.
		try, cancel := context.WithTimeout(ctx, max(2*s.o.FailureTimeout, time.Second))
		reply, err := bus.Request[Reply](try, s.o.Conn, subject, question)
		cancel()
		if err == nil {
			return reply, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("ask %s: %w", subject, ctx.Err())
		}
		lost := errors.Is(err, bus.ErrNoResponder) || errors.Is(err, bus.ErrDisconnected) || errors.Is(err, context.DeadlineExceeded)
		if !lost {
			return nil, err
		}
		if time.Since(began)+pause > patience {
			return nil, problem(NoLeader, "no coordinator leads: none answered for %v; a majority of them must be up", patience)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
