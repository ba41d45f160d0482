package coordinator

import (
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/plan"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// roundOf returns the message that tells workers all that the state asks of them. Its Revision is the caller's.
func roundOf(s *fsm.State, run *fsm.Run, all *plan.Seen) *wire.Round {
	seen := all.Run(run.ID)
	out := &wire.Round{
		Run: run.ID, Number: run.Rounds, Step: run.Cursor, State: wire.RunState(run.State), Reason: run.Reason,
		Maxima: run.Maxima, Parameters: run.Parameters(), Load: plan.MayLoad(s, run, seen), Check: run.SaveTried,
	}
	if run.Resume != nil && run.Resume.Step == run.Cursor {
		out.Resume = run.Resume.Path
	}
	for _, m := range s.Of(run.ID) {
		out.Members = append(out.Members, wire.Member{Worker: m.Worker, Address: m.Address, Behind: m.Behind, Peer: m.Peer})
	}
	if run.Save != nil {
		out.Save = &wire.Save{Step: run.Save.Step, Worker: run.Save.Worker, Standby: run.Save.Standby, Best: run.Save.Best}
	}
	if run.Cursor > 0 {
		out.Commit = commitOf(run, run.Cursor-1)
	}
	r := run.Round
	if r == nil {
		if out.Commit != nil && run.State.Working() {
			out.Commit.Round = run.Rounds // a step executed again was over in this round, not in its first
		}
		return out
	}
	out.Kind, out.Suite, out.Shards, out.Attempt, out.Scorer = wire.Kind(r.Kind), r.Suite, r.Shards, r.Attempt, r.Scorer
	if r.Kind == fsm.Train {
		out.Maxima = r.Maxima
	}
	for _, l := range r.Leases {
		out.Leases = append(out.Leases, wire.Lease{Range: wire.Range{Lo: l.Lo, Hi: l.Hi}, Worker: l.Worker, Epoch: l.Epoch})
	}
	if seen.Round == r.Number {
		out.Embedded = spans(seen.EmbeddedRanges())
	}
	if out.Audited = plan.Audited(run); len(out.Audited) > 0 && (r.Closing == nil || r.Closing.Withdrawn) {
		for _, a := range plan.Audits(s, run, all) {
			out.Audits = append(out.Audits, wire.Audit{Shard: a.Shard, Worker: a.Worker})
		}
	}
	if k := r.Closing; k != nil && !k.Withdrawn {
		out.Closing = &wire.Closing{Number: k.Number, Complete: k.Complete, Maxima: k.Maxima, Loss: k.Loss}
		for _, c := range k.Cover {
			out.Closing.Cover = append(out.Closing.Cover, wire.Cover{Worker: c.Worker, Shards: spans(c.Shards)})
		}
		for _, o := range k.Owners {
			out.Closing.Owners = append(out.Closing.Owners, wire.Owner{Worker: o.Worker, Lo: o.Lo, Hi: o.Hi})
		}
	}
	return out
}

// commitOf returns the record of a committed step; Step counts the steps applied after it.
func commitOf(run *fsm.Run, step int64) *wire.Commit {
	rec := run.Ledger.At(step)
	c := &wire.Commit{
		Round: rec.Round, Step: step + 1, Closing: rec.Closing, Attempt: rec.Attempt, Gradient: rec.Gradient,
		Parameters: rec.Parameters, Loss: rec.Loss, Norm: rec.Norm, Rate: rec.Rate, Tokens: rec.Tokens,
	}
	if step+1 == run.Cursor {
		c.Maxima = run.Maxima
	}
	return c
}

func spans(in []fsm.Range) []wire.Range {
	out := make([]wire.Range, len(in))
	for i, r := range in {
		out[i] = wire.Range{Lo: r.Lo, Hi: r.Hi}
	}
	return out
}

// runInfo returns what a worker needs to prepare for a run.
func runInfo(run *fsm.Run) *wire.RunInfo {
	return &wire.RunInfo{ID: run.ID, Name: run.Name, Identity: run.Identity, Spec: run.Spec, Store: run.Store, Numerics: run.Numerics, Secret: run.Secret}
}
