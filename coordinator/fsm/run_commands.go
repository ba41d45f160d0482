package fsm

import (
	"slices"
	"strings"
)

// Submit adds a run. A key that was submitted before is rejected: whoever did not hear the answer asks for it.
type Submit struct {
	ID, Name, Identity string
	Identify, Spec     []byte
	Store, Data        string
	Steps              int64
	Settings           Settings
	Secret             []byte // random, for the run's workers among themselves
	File               []byte
	Key                string
	Priority           int
}

func (c *Submit) apply(s *State) error {
	switch {
	case s.Run(c.ID) != nil:
		return reject("submit %s: there is a run of that id", c.ID)
	case c.Key != "" && slices.ContainsFunc(s.Runs, func(r *Run) bool { return r.Key == c.Key }):
		return reject("submit %s: its key %s was submitted before", c.ID, c.Key)
	case c.ID == "" || c.Steps < 1:
		return reject("submit %q: %d steps", c.ID, c.Steps)
	}
	s.Runs = append(s.Runs, &Run{
		ID: c.ID, Name: c.Name, Identity: c.Identity, Identify: c.Identify, Spec: c.Spec, Store: c.Store, Data: c.Data,
		Steps: c.Steps, Settings: c.Settings, Created: s.Now, State: Running, Resume: &Resume{}, SaveTried: -1,
		File: c.File, Key: c.Key, Priority: c.Priority, Secret: c.Secret,
	})
	return nil
}

// Configure replaces the settings that may change, and the store. A File replaces the one that the run is hosted from. An evaluation in flight is given up, for its suite
// may no longer be there; checkpoints move with a store that was moved.
type Configure struct {
	Run      string
	Store    string
	Settings Settings
	File     []byte // nil = as it was
}

func (c *Configure) apply(s *State) error {
	r, err := s.open("configure", c.Run)
	if err != nil {
		return err
	}
	if r.Round != nil && r.Round.Kind == Evaluate {
		r.Round = nil
	}
	was, wasQuery, _ := strings.Cut(r.Store, "?") // of a URL
	is, isQuery, _ := strings.Cut(c.Store, "?")
	moved := func(path string) string {
		path, query, _ := strings.Cut(path, "?")
		if rest, ok := strings.CutPrefix(path, was+"/"); ok && was != "" && query == wasQuery {
			path, query = is+"/"+rest, isQuery
		}
		if query != "" {
			path += "?" + query
		}
		return path
	}
	for i := range r.Manifests {
		r.Manifests[i].Path = moved(r.Manifests[i].Path)
	}
	if r.Resume != nil {
		r.Resume = &Resume{r.Resume.Step, moved(r.Resume.Path)}
	}
	if r.Settings, r.Store = c.Settings, c.Store; c.File != nil {
		r.File = c.File
	}
	r.markBest()
	return nil
}

// SetState moves a run along its lifecycle. The round in flight goes when the run no longer works.
type SetState struct {
	Run    string
	State  Lifecycle
	Reason string
}

// moves are the lifecycle's arrows.
var moves = map[Lifecycle][]Lifecycle{
	Running:  {Stopping, Paused, Failed, Cancelled, Finished},
	Stopping: {Running, Paused, Failed, Cancelled, Finished},
	Paused:   {Running, Cancelled},
	Failed:   {Running, Cancelled},
}

func (c *SetState) apply(s *State) error {
	r, err := s.open("set state of", c.Run)
	if err != nil {
		return err
	}
	if !slices.Contains(moves[r.State], c.State) {
		return reject("run %s is %s and cannot become %s", r.ID, r.State, c.State)
	}
	if r.State, r.Reason = c.State, c.Reason; !r.State.Working() {
		r.Round = nil
	}
	if r.State == Running {
		r.SaveLosses = 0
	}
	return nil
}

// Prioritize changes what a run may take from others.
type Prioritize struct {
	Run      string
	Priority int
}

func (c *Prioritize) apply(s *State) error {
	r, err := s.open("change the priority of", c.Run)
	if err != nil {
		return err
	}
	r.Priority = c.Priority
	return nil
}

// Fix fixes what the first lease decides: the numerics id, and the digest and number of the initial parameters.
type Fix struct {
	Run        string
	Numerics   string
	Parameters string
	Size       int64
}

func (c *Fix) apply(s *State) error {
	r, err := s.open("fix numerics of", c.Run)
	if err != nil {
		return err
	}
	if r.Numerics != "" || c.Numerics == "" || c.Size < 1 || c.Parameters == "" {
		return reject("fix numerics %q, %d parameters: the run's are %q", c.Numerics, c.Size, r.Numerics)
	}
	r.Numerics, r.Initial, r.Size = c.Numerics, c.Parameters, c.Size
	return nil
}

// Restart sends the fleet back to a checkpoint after every holder of the newest parameters was lost. The steps
// committed since are executed again and compared.
type Restart struct {
	Run  string
	Step int64
	Path string // "" with step 0: the initial parameters
}

func (c *Restart) apply(s *State) error {
	r, err := s.open("restart", c.Run)
	if err != nil {
		return err
	}
	m := r.Manifest(c.Step)
	switch {
	case c.Step == 0 && c.Path == "":
		r.Maxima = nil
	case m == nil || m.Path != c.Path || c.Step > r.Committed():
		return reject("restart run %s at step %d: no committed checkpoint %q", r.ID, c.Step, c.Path)
	default:
		r.Maxima = m.Maxima
	}
	r.Cursor, r.Resume, r.Round, r.Save = c.Step, &Resume{c.Step, c.Path}, nil, nil
	r.SaveTried = min(r.SaveTried, c.Step)
	for i := range s.Members {
		if m := &s.Members[i]; m.Run == c.Run {
			m.Behind, m.Peer = true, ""
		}
	}
	return nil
}

// open returns the run of that id, which must not be over.
func (s *State) open(what, id string) (*Run, error) {
	r := s.Run(id)
	if r == nil || r.State.Over() {
		return nil, reject("%s run %s: there is none, or it is over", what, id)
	}
	return r, nil
}
