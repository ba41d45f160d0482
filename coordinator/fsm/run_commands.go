package fsm

import (
	"slices"
	"strings"
)

// Submit adds a run. It is rejected while another one is not over.
type Submit struct {
	ID, Name, Identity string
	Identify, Spec     []byte
	Store, Data        string
	Steps              int64
	Settings           Settings
	Secret             []byte // random, for the run's workers among themselves
}

func (c *Submit) apply(s *State) error {
	switch {
	case s.Active() != nil:
		return reject("submit %s: run %s is %s", c.ID, s.Active().ID, s.Active().State)
	case slices.ContainsFunc(s.Runs, func(r *Run) bool { return r.ID == c.ID }):
		return reject("submit %s: there is a run of that id", c.ID)
	case c.ID == "" || c.Steps < 1:
		return reject("submit %q: %d steps", c.ID, c.Steps)
	}
	s.Runs = append(s.Runs, &Run{
		ID: c.ID, Name: c.Name, Identity: c.Identity, Identify: c.Identify, Spec: c.Spec, Store: c.Store, Data: c.Data,
		Steps: c.Steps, Settings: c.Settings, Created: s.Now, State: Running, Resume: &Resume{}, SaveTried: -1,
		Secret: c.Secret,
	})
	for i := range s.Members {
		s.Members[i].Behind, s.Members[i].Peer = true, ""
	}
	return nil
}

// Configure replaces the settings that may change, and the store. An evaluation in flight is given up, for its suite
// may no longer be there; checkpoints move with a store that was moved.
type Configure struct {
	Run      string
	Store    string
	Settings Settings
}

func (c *Configure) apply(s *State) error {
	r, err := s.active("configure", c.Run)
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
	r.Settings, r.Store = c.Settings, c.Store
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
	r, err := s.active("set state of", c.Run)
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

// Fix fixes what the first lease decides: the numerics id, and the digest and number of the initial parameters.
type Fix struct {
	Run        string
	Numerics   string
	Parameters string
	Size       int64
}

func (c *Fix) apply(s *State) error {
	r, err := s.active("fix numerics of", c.Run)
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
	r, err := s.active("restart", c.Run)
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
		s.Members[i].Behind, s.Members[i].Peer = true, ""
	}
	return nil
}

// active returns the active run, which must have that id.
func (s *State) active(what, id string) (*Run, error) {
	r := s.Active()
	if r == nil || r.ID != id {
		return nil, reject("%s run %s: it is not active", what, id)
	}
	return r, nil
}
