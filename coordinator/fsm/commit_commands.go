package fsm

import "slices"

// Commit ends a training round. A step that was committed before is compared and not committed again.
type Commit struct {
	Run        string
	Round      int64
	Step       int64
	Attempt    int32
	Gradient   string
	Parameters string
	Loss       float64
	Norm       float64
	Rate       float64
}

func (c *Commit) apply(s *State) error {
	r, err := s.inFlight("commit", c.Run, c.Round)
	if err != nil {
		return err
	}
	k := r.Round.Closing
	if r.Round.Kind != Train || k == nil || c.Step != r.Cursor || c.Attempt != r.Round.Attempt {
		return reject("commit step %d attempt %d: step %d attempt %d is in flight, closing %v", c.Step, c.Attempt, r.Cursor, r.Round.Attempt, k)
	}
	if c.Step < r.Committed() {
		old := r.Ledger.At(c.Step)
		if old.Gradient != c.Gradient || old.Parameters != c.Parameters {
			return reject("step %d: gradient %s, parameters %s; committed were %s, %s", c.Step, c.Gradient, c.Parameters, old.Gradient, old.Parameters)
		}
	} else {
		r.Ledger = r.Ledger.with(Record{
			Gradient: c.Gradient, Parameters: c.Parameters, Round: c.Round, Shards: r.Round.Shards, Attempt: c.Attempt,
			Closing: k.Number, Loss: c.Loss, Norm: c.Norm, Rate: c.Rate, Tokens: k.Tokens, At: s.Now, Batch: r.Round.Batch,
		})
	}
	r.Cursor, r.Maxima, r.Round = c.Step+1, k.Maxima, nil
	return nil
}

// Score names the worker that scores an evaluation.
type Score struct {
	Run    string
	Round  int64
	Worker string
}

func (c *Score) apply(s *State) error {
	r, err := s.inFlight("score", c.Run, c.Round)
	if err != nil {
		return err
	}
	if !s.holds(c.Worker, c.Run) || r.Round.Kind != Evaluate {
		return reject("%s scores round %d: not a full member, or no evaluation", c.Worker, c.Round)
	}
	r.Round.Scorer, r.Round.Scoring = c.Worker, s.Now
	return nil
}

// Evaluated ends an evaluation round.
type Evaluated struct {
	Run     string
	Round   int64
	Metrics map[string]float64
	Digest  string
}

func (c *Evaluated) apply(s *State) error {
	r, err := s.inFlight("evaluate", c.Run, c.Round)
	if err != nil {
		return err
	}
	if r.Round.Kind != Evaluate || r.Evaluated(r.Round.Step, r.Round.Suite) {
		return reject("evaluation of round %d: not an evaluation, or there already", c.Round)
	}
	r.Evaluations = append(r.Evaluations, Evaluation{
		Step: r.Round.Step, Suite: r.Round.Suite, Name: r.Settings.Suites[r.Round.Suite],
		Metrics: c.Metrics, Digest: c.Digest, At: s.Now,
	})
	r.Round = nil
	r.markBest()
	return nil
}

// SaveAt asks for a checkpoint of the parameters between two steps, or names another writer for it.
type SaveAt struct {
	Run     string
	Step    int64
	Worker  string
	Standby string
	Best    bool
}

func (c *SaveAt) apply(s *State) error {
	r, err := s.open("save", c.Run)
	if err != nil {
		return err
	}
	of := func(worker string) bool { m := s.Member(worker); return m != nil && m.Run == c.Run }
	if !of(c.Worker) || c.Standby != "" && !of(c.Standby) {
		return reject("save step %d by %s, standby %q: not its members", c.Step, c.Worker, c.Standby)
	}
	switch {
	case r.Save != nil && r.Save.Step == c.Step: // the writer was lost
		r.Save.Worker, r.Save.Standby, r.Save.At = c.Worker, c.Standby, s.Now
	case r.Save != nil || c.Step != r.Cursor || r.Round != nil || r.Manifest(c.Step) != nil:
		return reject("save step %d: step %d is next, a round or a save is in flight, or it is saved", c.Step, r.Cursor)
	default:
		r.Save = &Save{Step: c.Step, Worker: c.Worker, Standby: c.Standby, Best: c.Best, Maxima: r.Maxima, At: s.Now}
		r.SaveTried = c.Step
	}
	return nil
}

// SaveLost gives a checkpoint up: it could not be written, or nobody holds its copy any more.
type SaveLost struct {
	Run    string
	Step   int64
	Reason string
}

func (c *SaveLost) apply(s *State) error {
	r, err := s.open("save", c.Run)
	if err != nil {
		return err
	}
	if r.Save == nil || r.Save.Step != c.Step {
		return reject("save of step %d lost: not in flight", c.Step)
	}
	r.Save = nil
	r.SaveLosses, r.SaveError, r.SaveLostAt = r.SaveLosses+1, c.Reason, s.Now
	return nil
}

// Saved commits a checkpoint's manifest.
type Saved struct {
	Run    string
	Step   int64
	Worker string
	Path   string
	Digest string
}

func (c *Saved) apply(s *State) error {
	r, err := s.open("save", c.Run)
	if err != nil {
		return err
	}
	if r.Save == nil || r.Save.Step != c.Step || c.Path == "" {
		return reject("saved step %d at %q: not in flight", c.Step, c.Path)
	}
	r.Manifests = append(r.Manifests, Manifest{Step: c.Step, Path: c.Path, Digest: c.Digest, Worker: c.Worker, Maxima: r.Save.Maxima, At: s.Now})
	slices.SortFunc(r.Manifests, func(a, b Manifest) int { return int(a.Step - b.Step) })
	r.Save, r.SaveLosses, r.SaveError = nil, 0, ""
	r.markBest()
	return nil
}

// markBest marks the manifest with the highest mean of the best metric over the suites; the earlier wins a tie.
func (r *Run) markBest() {
	best, at := 0.0, -1
	for i := range r.Manifests {
		r.Manifests[i].Best = false
		if score, ok := r.ScoreOf(r.Manifests[i].Step); ok && (at < 0 || score > best) {
			best, at = score, i
		}
	}
	if at >= 0 {
		r.Manifests[at].Best = true
	}
}

// ScoreOf returns the mean of Settings.Best over the suites evaluated at the step; ok is false if there is none.
func (r *Run) ScoreOf(step int64) (score float64, ok bool) {
	n := 0
	for _, e := range r.Evaluations {
		if v, has := e.Metrics[r.Settings.Best]; has && e.Step == step {
			score += v
			n++
		}
	}
	if n == 0 || score != score {
		return 0, false
	}
	return score / float64(n), true
}

// Drop removes a manifest: too old, or damaged. Its files go after this is committed.
type Drop struct {
	Run    string
	Step   int64
	Reason string
}

func (c *Drop) apply(s *State) error {
	r, err := s.open("drop a checkpoint of", c.Run)
	if err != nil {
		return err
	}
	if r.Manifest(c.Step) == nil {
		return reject("drop checkpoint of step %d: there is none", c.Step)
	}
	r.Manifests = slices.DeleteFunc(r.Manifests, func(m Manifest) bool { return m.Step == c.Step })
	if r.Resume != nil && r.Resume.Step == c.Step && c.Step > 0 {
		r.Resume = nil
	}
	r.markBest()
	return nil
}
