package worker

import (
	"slices"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

var _ trainer.Auditor = (*fleet)(nil)

// second returns a shard of another worker that the leader wants computed again here; -1 = none. The trainer's own shards
// come first.
func (f *fleet) second(r *wire.Round, phase trainer.Phase) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if phase != trainer.Backward || r.Closing != nil || r.Attempt != f.attempt {
		return -1
	}
	for _, a := range r.Audits {
		if _, begun := f.begun[work{trainer.Audit, a.Shard}]; a.Worker == f.id && !begun && a.Shard >= 0 && a.Shard < r.Shards {
			return a.Shard
		}
	}
	return -1
}

// auditing notes that the shard that the trainer is given next is computed for its digest alone.
func (f *fleet) auditing(shard int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun[work{trainer.Audit, shard}] = 0
	f.audit = shard
}

// Audit implements trainer.Auditor.
func (f *fleet) Audit(shard int) (digest, only bool) {
	f.mu.Lock()
	only = f.audit == shard
	f.mu.Unlock()
	r, _ := f.view.now()
	return only || slices.Contains(r.Audited, int32(shard)), only
}

// checked takes the digest of a shard that was computed for nothing else, and reports whether done is of one.
func (f *fleet) checked(done trainer.Done) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.audit != done.Shard {
		return false
	}
	f.audit = -1
	f.ledger.add(wire.Report{Phase: uint8(trainer.Audit), Attempt: f.attempt, Shard: done.Shard, Tokens: done.Tokens, Seconds: done.Seconds, Digest: done.Digest})
	return true
}
