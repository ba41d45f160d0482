package worker

import (
	"slices"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
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
func (f *fleet) auditing(shard *data.Shard) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun[work{trainer.Audit, shard.Index}] = 0
	f.audit = shard
}

// Audit implements trainer.Auditor.
func (f *fleet) Audit(shard int) (digest, only bool) {
	f.mu.Lock()
	only = f.audit != nil && f.audit.Index == shard
	f.mu.Unlock()
	r, _ := f.view.now()
	return only || slices.Contains(r.Audited, int32(shard)), only
}

func slotsOf(shard *data.Shard) []int32 {
	slots := make([]int32, len(shard.Texts))
	for i := range shard.Texts {
		slots[i] = shard.Texts[i].Slot
	}
	return slots
}

// checked takes the digest of a shard that was computed for nothing else, and reports whether done is of one.
func (f *fleet) checked(done trainer.Done) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.audit == nil || f.audit.Index != done.Shard {
		return false
	}
	m := wire.Report{Phase: uint8(trainer.Audit), Attempt: f.attempt, Shard: done.Shard, Tokens: done.Tokens, Seconds: done.Seconds, Digest: done.Digest}
	if done.Rows != nil {
		m.Rows = wire.DigestRows(slotsOf(f.audit), done.Rows)
	}
	f.audit = nil
	f.ledger.add(m)
	return true
}
