package fsm

import (
	"slices"
	"time"
)

// Rewind takes committed steps back: a worker that had a part in them turned out to have computed with damaged weights. The
// fleet goes on at a checkpoint from before, and executes and commits the steps anew. It is the only command after which a
// step is committed a second time, and its reason stays with the run.
type Rewind struct {
	Run    string
	Step   int64
	Path   string // "" with step 0: the initial parameters
	Reason string
}

// Rewound is what a Rewind took back: the steps (From, To].
type Rewound struct {
	From, To int64
	Reason   string
	At       time.Time
}

func (c *Rewind) apply(s *State) error {
	r, err := s.open("rewind", c.Run)
	if err != nil {
		return err
	}
	was := r.Committed()
	if c.Step > was {
		return reject("rewind run %s to step %d of %d", r.ID, c.Step, was)
	}
	if err := (&Restart{Run: c.Run, Step: c.Step, Path: c.Path}).apply(s); err != nil {
		return err
	}
	r.Ledger = r.Ledger.until(c.Step)
	r.Manifests = slices.DeleteFunc(r.Manifests, func(m Manifest) bool { return m.Step > c.Step })
	r.Evaluations = slices.DeleteFunc(slices.Clone(r.Evaluations), func(e Evaluation) bool { return e.Step > c.Step })
	r.Rewinds = append(slices.Clip(r.Rewinds), Rewound{c.Step, was, c.Reason, s.Now})
	r.markBest()
	return nil
}

// until returns the ledger's first n records; l stays as it is.
func (l *Ledger) until(n int64) Ledger {
	blocks := slices.Clone(l.Blocks[:(n+ledgerBlock-1)/ledgerBlock])
	if rest := n % ledgerBlock; rest > 0 {
		blocks[len(blocks)-1] = slices.Clone(blocks[len(blocks)-1][:rest])
	}
	return Ledger{blocks}
}
