package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// Left begins the reason of an Expire for a member that drained.
const Left = "left: "

// Damaged begins the reason of a Drop for a checkpoint that did not pass its verification.
const Damaged = "damaged: "

// members expires who is lost, drained or does not fit.
func (p *planner) members() {
	for _, m := range p.s.Members {
		if reason := p.expired(&m); reason != "" {
			p.do(&fsm.Expire{Worker: m.Worker, Reason: reason})
		}
	}
}

// expired returns why a member is to be expired; "" = it is not.
func (p *planner) expired(m *fsm.Member) string {
	w, r := p.seen.Workers[m.Worker], p.s.Run(m.Run)
	if w == nil {
		switch {
		case p.seen.Alone:
			return "its process ended"
		case p.now.Sub(p.seen.Since) >= p.seen.Timers.Silence:
			return fmt.Sprintf("not heard since the leader began %v ago", p.seen.Timers.Silence)
		}
		return ""
	}
	switch silent := p.now.Sub(w.Heard); {
	case !w.Lost.IsZero() && p.now.Sub(w.Lost) >= p.seen.Timers.Blip:
		return "connection lost: " + w.LostReason
	case silent >= p.seen.Timers.Silence:
		return fmt.Sprintf("silent for %v", silent.Round(time.Millisecond))
	case r != nil && r.Numerics != "" && m.Numerics != r.Numerics && !r.Settings.Mixed:
		return fmt.Sprintf("numerics %s, the run's are %s (cluster.mixed allows both)", m.Numerics, r.Numerics)
	case w.Leaving != "" && p.free(m):
		return Left + w.Leaving
	}
	return ""
}

// free reports whether nothing waits for a member that drains, or that another run wants.
func (p *planner) free(m *fsm.Member) bool {
	r := p.s.Run(m.Run)
	switch {
	case r == nil || r.State.Over():
		return true
	case r.Save != nil && r.Save.Worker == m.Worker:
		return false
	case !r.State.Working() || m.Behind || r.Round == nil:
		return true
	}
	v := p.seen.of(r.ID)
	for _, l := range r.Round.Leases {
		for shard := l.Lo; l.Worker == m.Worker && shard < l.Hi; shard++ {
			// A sum goes with its worker; embeddings have gone to everybody.
			if r.Round.Kind == fsm.Train || v.embedded(r.Round, shard) == nil {
				return false
			}
		}
	}
	return r.Round.Scorer != m.Worker && (r.Round.Closing == nil || r.Round.Closing.Withdrawn || !r.Round.Closing.Named(m.Worker))
}

// promote makes full members of those whose parameters are the committed ones, by digest. The first of a run's members
// fixes what the initial ones are. While a closing is in flight nobody is added, for the commit would wait for them.
func (p *planner) promote() {
	r := p.run()
	if r.Round != nil && r.Round.Closing != nil && !r.Round.Closing.Withdrawn && len(p.s.Full(p.at)) > 0 {
		return
	}
	for _, m := range p.s.Of(p.at) {
		w := p.seen.Workers[m.Worker]
		r = p.run()
		if !m.Behind || w == nil || w.Run != p.at || w.Leaving != "" || !w.Lost.IsZero() || w.State != r.Cursor || w.Parameters == "" {
			continue
		}
		if want := r.Parameters(); want != "" && w.Parameters != want {
			p.do(&fsm.Expire{Worker: m.Worker, Quarantine: true, Reason: fmt.Sprintf(
				"its parameters of step %d have digest %s, the run's have %s", r.Cursor, w.Parameters, want)})
			continue
		}
		if reason := p.unlike(&m, w); reason != "" {
			p.do(&fsm.Expire{Worker: m.Worker, Quarantine: true, Reason: reason})
			continue
		}
		if r.Numerics == "" {
			if w.Size < 1 || !p.do(&fsm.Fix{Run: r.ID, Numerics: m.Numerics, Parameters: w.Parameters, Size: w.Size}) {
				continue
			}
		} else if m.Numerics != r.Numerics && !r.Settings.Mixed {
			continue // expired at the next look
		}
		p.do(&fsm.Promote{Worker: m.Worker})
	}
}

// follow gives every member that is behind a peer to copy from: the full one with the fewest followers.
func (p *planner) follow() {
	followers := map[string]int{}
	of := p.s.Of(p.at)
	for _, m := range of {
		if m.Behind && m.Peer != "" {
			followers[m.Peer]++
		}
	}
	for _, m := range of {
		if !m.Behind || m.Peer != "" && p.full(m.Peer) {
			continue
		}
		peer := ""
		for _, f := range p.assignable() {
			if peer == "" || followers[f] < followers[peer] {
				peer = f
			}
		}
		if peer != "" && p.do(&fsm.Follow{Worker: m.Worker, Peer: peer}) {
			followers[peer]++
		}
	}
}

// told reports whether the run has members and all of them have said what they have of it: one that worked on it before
// may hold its newest parameters. One that says nothing is expired soon.
func (p *planner) told() bool {
	of := p.s.Of(p.at)
	return len(of) > 0 && !slices.ContainsFunc(of, func(m fsm.Member) bool {
		w := p.seen.Workers[m.Worker]
		return w == nil || w.Run != p.at
	})
}

// recover finds a place to go on from when no live member holds the newest parameters: the newest checkpoint that
// verifies, or the initial parameters.
func (p *planner) recover() {
	if p.now.Before(p.v.Wait) || !p.told() {
		return
	}
	for r := p.run(); ; r = p.run() {
		step, path := int64(0), ""
		if m := Candidate(r); m != nil {
			step, path = m.Step, m.Path
			switch wrong, known := p.v.Verified[path]; {
			case !known:
				return // the leader reads it now
			case wrong != "":
				if !p.do(&fsm.Drop{Run: r.ID, Step: step, Reason: Damaged + wrong}) {
					return
				}
				continue
			}
		}
		if r.Resume == nil || r.Resume.Step != r.Cursor || r.Resume.Path != path || step != r.Cursor {
			p.do(&fsm.Restart{Run: r.ID, Step: step, Path: path})
		}
		return
	}
}

// Candidate returns the newest checkpoint of a run, the first to be tried after a total loss; nil = none.
func Candidate(r *fsm.Run) *fsm.Manifest {
	if n := len(r.Manifests); n > 0 {
		return &r.Manifests[n-1]
	}
	return nil
}

// MayLoad reports whether members without a peer should load the run's Resume now: it is of the step that the fleet
// is at, and known to be good.
func MayLoad(s *fsm.State, r *fsm.Run, seen *RunSeen) bool {
	if len(s.Full(r.ID)) > 0 || r.Resume == nil || r.Resume.Step != r.Cursor {
		return false
	}
	wrong, known := seen.Verified[r.Resume.Path]
	return r.Resume.Path == "" || known && wrong == ""
}
