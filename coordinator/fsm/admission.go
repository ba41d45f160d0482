package fsm

import (
	"slices"
	"time"
)

// maxAdmissions bounds the keys that a state remembers; each is about 200 bytes.
const maxAdmissions = 1 << 16

// Admission is a worker's key that may join, for good.
type Admission struct {
	Key   string // public nkey
	Name  string // of the worker that showed it first, for people
	Token string // id of the join token that admitted it; "" = its certificate did
	At    time.Time
}

// Admit lets a worker's key join. A join token admits Uses keys; of hellos that show it at once, the log decides which
// come in.
type Admit struct {
	Key, Name, Token string
	Uses             int // of the token; ignored without one
}

func (c *Admit) apply(s *State) error {
	switch {
	case c.Key == "":
		return reject("admit %s: no key", c.Name)
	case s.Admission(c.Key) != nil:
		return reject("admit %s: key %.8s is admitted", c.Name, c.Key)
	case len(s.Admissions) >= maxAdmissions:
		return reject("admit %s: %d keys are admitted, no more are remembered", c.Name, len(s.Admissions))
	case c.Token != "" && s.TokenUses(c.Token) >= c.Uses:
		return reject("admit %s: join token %.8s has been used %d of %d times", c.Name, c.Token, s.TokenUses(c.Token), c.Uses)
	}
	s.Admissions = append(slices.Clip(s.Admissions), Admission{Key: c.Key, Name: c.Name, Token: c.Token, At: s.Now})
	return nil
}

// Holder says whose a worker id is: what its key may do follows from the member of that id.
type Holder struct {
	Worker, Key string
	At          time.Time
}

// Hold notes that a worker id is of an admitted key. It comes before the Join of that id.
type Hold struct{ Worker, Key string }

// holdsFor is how long an id is kept whose Join has not come.
const holdsFor = time.Minute

func (c *Hold) apply(s *State) error {
	switch h := s.Holder(c.Worker); {
	case s.Admission(c.Key) == nil:
		return reject("worker %s: key %.8s is not admitted", c.Worker, c.Key)
	case h != "" && h != c.Key:
		return reject("worker %s is of key %.8s, not of %.8s", c.Worker, h, c.Key)
	case h != "":
		return reject("worker %s is of key %.8s already", c.Worker, h)
	}
	var kept []Holder // states before keep theirs
	for _, h := range s.Holders {
		if s.Member(h.Worker) != nil || s.Now.Sub(h.At) < holdsFor {
			kept = append(kept, h)
		}
	}
	s.Holders = append(kept, Holder{c.Worker, c.Key, s.Now})
	return nil
}

// Holder returns the key that a worker id is of; "" = none is known.
func (s *State) Holder(worker string) string {
	for _, h := range s.Holders {
		if h.Worker == worker {
			return h.Key
		}
	}
	return ""
}

// Admission returns what is known of a key; nil = it was not admitted.
func (s *State) Admission(key string) *Admission {
	for i := range s.Admissions {
		if s.Admissions[i].Key == key {
			return &s.Admissions[i]
		}
	}
	return nil
}

// TokenUses returns how many keys a join token has admitted.
func (s *State) TokenUses(token string) int {
	n := 0
	for _, a := range s.Admissions {
		if a.Token == token {
			n++
		}
	}
	return n
}
