package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/pack"
)

// VerifyEvery is how many entries lie between two comparisons of the replicas.
const VerifyEvery = 1024

// ErrDiverged marks a replica whose state is not the one that the log makes of it: a bit flipped in its memory or on its
// disk, or its build reads an entry in another way. It must stop, and begin again from the others' snapshot.
var ErrDiverged = errors.New("this replica's state differs from the leader's")

// Verify tells all replicas what the leader's state is after so many entries: the chain over their bytes, and the
// fingerprint of what they made. It is compared where it finds exactly that many entries before it, which it does unless
// the leader changed in between.
type Verify struct {
	Entries     uint64
	Chain       []byte
	Fingerprint string
}

// NewVerify returns the command that compares the others with s.
func NewVerify(s *State) *Verify {
	return &Verify{Entries: s.Entries, Chain: s.Chain, Fingerprint: s.fingerprint()}
}

func (c *Verify) apply(s *State) error {
	if s.Entries != c.Entries {
		return reject("verify after %d entries: %d are applied", c.Entries, s.Entries)
	}
	if !bytes.Equal(s.Chain, c.Chain) {
		return fmt.Errorf("after %d entries the log's hash is %x here and %x with the leader: %w", s.Entries, s.Chain, c.Chain, ErrDiverged)
	}
	if got := s.fingerprint(); got != c.Fingerprint {
		return fmt.Errorf("after %d equal entries the state's hash is %s here and %s with the leader: %w", s.Entries, got, c.Fingerprint, ErrDiverged)
	}
	return nil
}

// fingerprint is a hash of the state but for what an entry changes before its commands are applied, and but for whole
// blocks of ledgers, which never change again: its cost does not grow with a run's length.
func (s *State) fingerprint() string {
	c := *s
	c.Now, c.Keys = time.Time{}, nil
	c.Runs = make([]*Run, len(s.Runs))
	for i, r := range s.Runs {
		short := *r
		if n := len(r.Ledger.Blocks); n > 1 {
			short.Ledger.Blocks = r.Ledger.Blocks[n-1:]
		}
		c.Runs[i] = &short
	}
	sum := sha256.Sum256(pack.Marshal(&c))
	return hex.EncodeToString(sum[:])
}
