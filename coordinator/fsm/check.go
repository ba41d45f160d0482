package fsm

import "fmt"

// Check returns an error if the state breaks an invariant. No sequence of commands can bring that about; it is
// asked after reading a snapshot, and by tests after every command.
func (s *State) Check() error {
	seen := map[string]bool{}
	for _, m := range s.Members {
		if m.Worker == "" || seen[m.Worker] {
			return fmt.Errorf("member %q is there twice", m.Worker)
		}
		seen[m.Worker] = true
		if m.Epoch > s.Epoch {
			return fmt.Errorf("member %s has epoch %d, newest is %d", m.Worker, m.Epoch, s.Epoch)
		}
	}
	runs := map[string]bool{}
	for i, r := range s.Runs {
		if r == nil {
			return fmt.Errorf("run %d is missing", i)
		}
		if r.ID == "" || runs[r.ID] {
			return fmt.Errorf("run %q is there twice", r.ID)
		}
		runs[r.ID] = true
		if err := r.check(s); err != nil {
			return fmt.Errorf("run %s: %w", r.ID, err)
		}
	}
	for _, m := range s.Members {
		if m.Run != "" && !runs[m.Run] || m.Run == "" && (!m.Behind || m.Peer != "") {
			return fmt.Errorf("member %s of run %q, behind %v, copying from %q", m.Worker, m.Run, m.Behind, m.Peer)
		}
		if m.Peer == "" {
			continue
		}
		if p := s.Member(m.Peer); !m.Behind || p == nil || p.Behind || p.Run != m.Run {
			return fmt.Errorf("member %s copies from %s, which is not a full member of its run", m.Worker, m.Peer)
		}
	}
	return nil
}

func (r *Run) check(s *State) error {
	for i, block := range r.Ledger.Blocks {
		if len(block) != ledgerBlock && (i < len(r.Ledger.Blocks)-1 || len(block) == 0 || len(block) > ledgerBlock) {
			return fmt.Errorf("ledger block %d has %d records", i, len(block))
		}
	}
	if r.Cursor < 0 || r.Cursor > r.Committed() || r.Committed() > r.Steps {
		return fmt.Errorf("at step %d, %d committed of %d", r.Cursor, r.Committed(), r.Steps)
	}
	for _, m := range r.Manifests {
		if m.Step < 0 || m.Step > r.Committed() {
			return fmt.Errorf("checkpoint of step %d, %d committed", m.Step, r.Committed())
		}
	}
	if r.Round == nil {
		return nil
	}
	if !r.State.Working() || r.Round.Step != r.Cursor || r.Round.Number != r.Rounds {
		return fmt.Errorf("round %d of step %d in a run that is %s at round %d, step %d", r.Round.Number, r.Round.Step, r.State, r.Rounds, r.Cursor)
	}
	next := 0
	for _, l := range r.Round.Leases {
		if l.Lo != next || l.Hi <= l.Lo || l.Epoch > s.Epoch {
			return fmt.Errorf("lease of [%d, %d) after shard %d", l.Lo, l.Hi, next)
		}
		next = l.Hi
	}
	if next != r.Round.Shards {
		return fmt.Errorf("leases end at shard %d of %d", next, r.Round.Shards)
	}
	return nil
}
