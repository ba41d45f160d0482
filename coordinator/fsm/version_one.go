package fsm

// Logs of builds that had one run at a time are read as they were meant: every member worked on the newest run. Nothing
// writes these commands any more.

// submitOne is Submit as it was: rejected while another run is not over; all members begin it.
type submitOne struct {
	ID, Name, Identity string
	Identify, Spec     []byte
	Store, Data        string
	Steps              int64
	Settings           Settings
	Secret             []byte
}

func (c *submitOne) apply(s *State) error {
	if r := s.only(); r != nil {
		return reject("submit %s: run %s is %s", c.ID, r.ID, r.State)
	}
	if err := (&Submit{
		ID: c.ID, Name: c.Name, Identity: c.Identity, Identify: c.Identify, Spec: c.Spec, Store: c.Store, Data: c.Data,
		Steps: c.Steps, Settings: c.Settings, Secret: c.Secret,
	}).apply(s); err != nil {
		return err
	}
	s.adopt()
	for i := range s.Members {
		s.Members[i].Behind, s.Members[i].Peer = true, ""
	}
	return nil
}

// Submitted returns the id of the run that a command adds, in whichever version; ok is false for other commands.
func Submitted(c Command) (id string, ok bool) {
	switch c := c.(type) {
	case *Submit:
		return c.ID, true
	case *submitOne:
		return c.ID, true
	}
	return "", false
}

// joinOne is Join as it was: the member works on the run that there is.
type joinOne struct {
	Worker, Name, Connection, Address, Numerics string
	Threads                                     int
}

func (c *joinOne) apply(s *State) error {
	if err := (&Join{c.Worker, c.Name, c.Connection, c.Address, c.Numerics, c.Threads, nil}).apply(s); err != nil {
		return err
	}
	if n := len(s.Runs); n > 0 {
		s.Member(c.Worker).Run = s.Runs[n-1].ID
	}
	return nil
}

// only returns the newest run unless it is over; nil = none.
func (s *State) only() *Run {
	if n := len(s.Runs); n > 0 && !s.Runs[n-1].State.Over() {
		return s.Runs[n-1]
	}
	return nil
}

// adopt gives all members to the newest run.
func (s *State) adopt() {
	for i := range s.Members {
		s.Members[i].Run = s.Runs[len(s.Runs)-1].ID
	}
}
