package fsm

import "slices"

// Join adds a member. It is idle until it is assigned to a run.
type Join struct {
	Worker, Name, Connection, Address, Numerics string
	Threads                                     int
	Labels                                      []string
}

func (c *Join) apply(s *State) error {
	switch {
	case c.Worker == "":
		return reject("join without an id")
	case s.Member(c.Worker) != nil:
		return reject("join %s: it is a member", c.Worker)
	case slices.Contains(s.Quarantined, c.Name):
		return reject("join %s: %s is quarantined", c.Worker, c.Name)
	}
	s.Epoch++
	s.Members = append(s.Members, Member{
		Worker: c.Worker, Name: c.Name, Connection: c.Connection, Address: c.Address, Numerics: c.Numerics,
		Threads: c.Threads, Epoch: s.Epoch, Joined: s.Now, Behind: true, Labels: c.Labels,
	})
	return nil
}

// Assign gives a member to a run, or takes it from its run (Run ""). It is behind until its parameters are known to be
// that run's. What it has done in the round in flight of the run that it leaves is lost like an expired member's.
type Assign struct{ Worker, Run string }

func (c *Assign) apply(s *State) error {
	m := s.Member(c.Worker)
	switch {
	case m == nil || m.Run == c.Run:
		return reject("assign %s to run %q: not a member, or assigned to it", c.Worker, c.Run)
	case c.Run != "":
		if _, err := s.open("assign "+c.Worker+" to", c.Run); err != nil {
			return err
		}
	}
	m.Run, m.Behind, m.Peer = c.Run, true, ""
	s.unfollow(c.Worker)
	return nil
}

// Expire removes a member: dead, hung, drained or doubted. Its leases stay with its name until they are granted again.
type Expire struct {
	Worker     string
	Reason     string
	Quarantine bool // its name may not join again
}

func (c *Expire) apply(s *State) error {
	m := s.Member(c.Worker)
	if m == nil {
		return reject("expire %s: not a member", c.Worker)
	}
	if c.Quarantine && !slices.Contains(s.Quarantined, m.Name) {
		s.Quarantined = append(s.Quarantined, m.Name)
	}
	s.Epoch++
	s.Members = slices.DeleteFunc(s.Members, func(m Member) bool { return m.Worker == c.Worker })
	s.unfollow(c.Worker)
	return nil
}

// unfollow takes a peer from those that copy from it.
func (s *State) unfollow(peer string) {
	for i := range s.Members {
		if s.Members[i].Peer == peer {
			s.Members[i].Peer = ""
		}
	}
}

// Follow tells a member that is behind from whom to copy.
type Follow struct{ Worker, Peer string }

func (c *Follow) apply(s *State) error {
	m, p := s.Member(c.Worker), s.Member(c.Peer)
	if m == nil || !m.Behind || p == nil || p.Behind || m.Run != p.Run {
		return reject("%s follows %s: a member behind follows a full one of its run", c.Worker, c.Peer)
	}
	m.Peer = c.Peer
	return nil
}

// Demote makes a full member one that is behind: its parameters are in doubt, or of a step that was not committed.
type Demote struct{ Worker string }

func (c *Demote) apply(s *State) error {
	m := s.Member(c.Worker)
	if m == nil || m.Behind {
		return reject("demote %s: not a full member", c.Worker)
	}
	m.Behind, m.Peer = true, ""
	s.unfollow(c.Worker)
	return nil
}

// Promote makes a member that was behind a full one of its run.
type Promote struct{ Worker string }

func (c *Promote) apply(s *State) error {
	m := s.Member(c.Worker)
	if m == nil || !m.Behind || m.Run == "" {
		return reject("promote %s: not a member of a run that is behind", c.Worker)
	}
	m.Behind, m.Peer = false, ""
	return nil
}
