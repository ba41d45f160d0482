package fsm

import "slices"

// Open starts a round. Leases cover its shards.
type Open struct {
	Run    string
	Number int64
	Kind   Kind
	Step   int64
	Suite  int
	Shards int
	Gather bool    // embeddings of all shards are gathered before the backward pass
	Leases []Lease // Epoch and At are set by Apply
	Batch  string  // digest of the batch that is served
}

func (c *Open) apply(s *State) error {
	r, err := s.open("open a round of", c.Run)
	if err != nil {
		return err
	}
	switch {
	case !r.State.Working() || r.Round != nil || r.Numerics == "":
		return reject("open round %d: run %s is %s, a round is in flight: %v, numerics %q", c.Number, r.ID, r.State, r.Round != nil, r.Numerics)
	case c.Number != r.Rounds+1 || c.Step != r.Cursor || c.Shards < 1 || c.Shards > MaxShards:
		return reject("open round %d of step %d with %d shards: round %d of step %d is next", c.Number, c.Step, c.Shards, r.Rounds+1, r.Cursor)
	case c.Kind == Train && c.Step >= r.Steps || c.Kind != Train && c.Kind != Evaluate:
		return reject("open round of kind %d at step %d of %d", c.Kind, c.Step, r.Steps)
	case c.Kind == Evaluate && (c.Suite < 0 || c.Suite >= len(r.Settings.Suites)):
		return reject("evaluate suite %d of %d", c.Suite, len(r.Settings.Suites))
	}
	r.Round = &Round{Number: c.Number, Kind: c.Kind, Step: c.Step, Suite: c.Suite, Shards: c.Shards, Gather: c.Gather || c.Kind == Evaluate, Opened: s.Now, Retried: s.Now, Batch: c.Batch}
	if c.Kind == Train {
		r.Round.Maxima = r.Maxima
	}
	r.Rounds = c.Number
	return s.grant(r, c.Leases, true)
}

// Grant leases shards again: of a lost worker, or of one that is late. A closing in flight is withdrawn.
type Grant struct {
	Run    string
	Round  int64
	Leases []Lease
}

func (c *Grant) apply(s *State) error {
	r, err := s.inFlight("grant leases in", c.Run, c.Round)
	if err != nil {
		return err
	}
	if len(c.Leases) == 0 {
		return reject("grant no leases")
	}
	return s.grant(r, c.Leases, false)
}

// holds reports whether a worker is a full member of a run.
func (s *State) holds(worker, run string) bool {
	m := s.Member(worker)
	return m != nil && m.Run == run && !m.Behind
}

// grant lays leases over those of the run's round, under a new epoch.
func (s *State) grant(run *Run, grants []Lease, all bool) error {
	r, grants := run.Round, slices.Clone(grants)
	s.Epoch++
	next := 0
	for i := range grants {
		g := &grants[i]
		if g.Lo < next || g.Hi <= g.Lo || g.Hi > r.Shards || all && g.Lo != next {
			return reject("lease of shards [%d, %d): round of %d shards, %d is next", g.Lo, g.Hi, r.Shards, next)
		}
		if !s.holds(g.Worker, run.ID) {
			return reject("lease of shards [%d, %d) to %s: not a full member of the run", g.Lo, g.Hi, g.Worker)
		}
		g.Epoch, g.At, next = s.Epoch, s.Now, g.Hi
	}
	if all && next != r.Shards {
		return reject("leases end at shard %d of %d", next, r.Shards)
	}
	r.Leases, r.LeasedAt = overlay(r.Leases, grants, r.Shards), s.Now
	if r.Closing != nil && !r.Closing.Withdrawn {
		closing := *r.Closing
		closing.Withdrawn = true
		r.Closing = &closing
	}
	return nil
}

// Retry starts the next attempt of a training round: some value exceeded its bound. Maxima are those observed.
type Retry struct {
	Run     string
	Round   int64
	Attempt int32 // the new one
	Maxima  []float32
}

func (c *Retry) apply(s *State) error {
	r, err := s.inFlight("retry", c.Run, c.Round)
	if err != nil {
		return err
	}
	if c.Attempt != r.Round.Attempt+1 || r.Round.Closing != nil || r.Round.Kind != Train {
		return reject("attempt %d of round %d: attempt %d is in flight, closing %v", c.Attempt, c.Round, r.Round.Attempt, r.Round.Closing)
	}
	r.Round.Attempt, r.Round.Maxima, r.Round.Retried = c.Attempt, c.Maxima, s.Now
	return nil
}

// Close commits a closing. Its cover is disjoint and whole, but for a complete one, which has none.
type Close struct {
	Run     string
	Round   int64
	Closing Closing
}

func (c *Close) apply(s *State) error {
	r, err := s.inFlight("close", c.Run, c.Round)
	if err != nil {
		return err
	}
	k, last := c.Closing, int32(0)
	if r.Round.Closing != nil {
		last = r.Round.Closing.Number
	}
	if r.Round.Kind != Train || k.Number != last+1 || len(k.Owners) == 0 {
		return reject("closing %d of round %d: closing %d is the newest", k.Number, c.Round, last)
	}
	if err := s.cover(r, &k); err != nil {
		return err
	}
	k.Withdrawn, k.At = false, s.Now
	r.Round.Closing = &k
	return nil
}

// cover checks that a closing names every shard and every parameter once, and full members only.
func (s *State) cover(r *Run, k *Closing) error {
	named := make([]bool, r.Round.Shards)
	shards := 0
	for _, cover := range k.Cover {
		if !s.holds(cover.Worker, r.ID) {
			return reject("closing %d names %s: not a full member", k.Number, cover.Worker)
		}
		for _, span := range cover.Shards {
			if span.Lo < 0 || span.Hi > len(named) || span.Lo >= span.Hi {
				return reject("closing %d names shards [%d, %d) of %d", k.Number, span.Lo, span.Hi, len(named))
			}
			for shard := span.Lo; shard < span.Hi; shard++ {
				if named[shard] {
					return reject("closing %d names shard %d twice", k.Number, shard)
				}
				named[shard] = true
				shards++
			}
		}
	}
	if !k.Complete && shards != len(named) || k.Complete && shards != 0 {
		return reject("closing %d names %d of %d shards, complete: %v", k.Number, shards, len(named), k.Complete)
	}
	next := int64(0)
	for _, o := range k.Owners {
		if !s.holds(o.Worker, r.ID) {
			return reject("closing %d has the owner %s: not a full member", k.Number, o.Worker)
		}
		if o.Lo != next || o.Hi < o.Lo {
			return reject("closing %d: owner of parameters [%d, %d), %d is next", k.Number, o.Lo, o.Hi, next)
		}
		next = o.Hi
	}
	if next != r.Size {
		return reject("closing %d: owners end at parameter %d of %d", k.Number, next, r.Size)
	}
	return nil
}

// Abandon gives a round up: all its workers are lost.
type Abandon struct {
	Run   string
	Round int64
}

func (c *Abandon) apply(s *State) error {
	r, err := s.inFlight("abandon", c.Run, c.Round)
	if err != nil {
		return err
	}
	r.Round = nil
	return nil
}

// inFlight returns the run, which must have that round in flight.
func (s *State) inFlight(what, run string, round int64) (*Run, error) {
	r, err := s.open(what, run)
	if err != nil {
		return nil, err
	}
	if r.Round == nil || r.Round.Number != round {
		return nil, reject("%s round %d: it is not in flight", what, round)
	}
	return r, nil
}
