package fsm

import "time"

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
	// Clipped when it is cloned: states before keep theirs.
	s.Admissions = append(s.Admissions, Admission{Key: c.Key, Name: c.Name, Token: c.Token, At: s.Now})
	return nil
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
