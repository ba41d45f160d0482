package consensus

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Limits of a group.
const (
	maxVoters = 5   // more only cost: each commit waits for more disks
	slack     = 250 // entries that a newcomer may be behind when it gets its vote; raft-autopilot's MaxTrailingLogs
	minVoters = 3   // a group of three is not made smaller: two are lost by one loss as well
)

// seat is a member in Raft's configuration.
type seat struct {
	ID, Name, Address string
	Voter             bool
}

// view is what a leader knows of its group.
type view struct {
	self       string // id
	seats      []seat
	heard      map[string]heard // by id
	began      time.Time        // of this leadership: nobody is held silent from before
	commit     uint64
	configured int // coordinators in the configuration
}

// kind is a change of the group.
type kind string

const (
	nothing kind = ""
	admit   kind = "admitted without a vote"
	promote kind = "given a vote"
	remove  kind = "removed"
)

// action is what a leader does about its group, at most one thing at a time.
type action struct {
	kind    kind
	seat    seat
	why     string
	refused string // why somebody was not admitted; said, and nothing else done
}

// silent is how long a member has said nothing.
func (v view) silent(id string, now time.Time) time.Duration {
	if id == v.self {
		return 0
	}
	last := v.began
	if h, ok := v.heard[id]; ok && h.at.After(last) {
		last = h.at
	}
	return now.Sub(last)
}

// spare reports whether a voter can go: the voters that are heard must be a majority both of the present group, which
// commits the change, and of the rest.
func (v view) spare(id string, now time.Time, t Timers) bool {
	voters, well := 0, 0
	for _, s := range v.seats {
		if !s.Voter {
			continue
		}
		voters++
		if s.ID != id && v.silent(s.ID, now) <= t.Failure {
			well++
		}
	}
	return id != v.self && well > voters/2 && well > (voters-1)/2
}

// decide says what to do next. The rules are raft-autopilot's: newcomers first have no vote; they get one when they were
// well and caught up for a while; dead members go while the rest is a majority, and not below three voters. Beyond
// these, a member that comes back without its log takes its predecessor's place.
func decide(v view, now time.Time, t Timers) action {
	seats, voters := map[string]seat{}, 0
	for _, s := range v.seats {
		seats[s.ID] = s
		if s.Voter {
			voters++
		}
	}
	var act action
	for _, id := range sortedKeys(v.heard) {
		h := v.heard[id]
		if v.silent(id, now) > t.Failure {
			continue
		}
		s, in := seats[id]
		switch {
		case in && s.Address != h.Address: // it moved
			s.Address = h.Address
			if s.Voter {
				return action{kind: promote, seat: s, why: "its address changed"}
			}
			return action{kind: admit, seat: s, why: "its address changed"}
		case in && !s.Voter && voters < maxVoters && now.Sub(h.well) >= t.Stable && h.Last+slack >= v.commit:
			return action{kind: promote, seat: s, why: fmt.Sprintf("caught up to entry %d of %d", h.Last, v.commit)}
		case in:
			continue
		}
		newcomer := seat{ID: id, Name: nameOf(id), Address: h.Address}
		for _, s := range v.seats {
			if s.Name != newcomer.Name && s.Address != newcomer.Address {
				continue
			}
			switch {
			case s.ID == v.self || v.silent(s.ID, now) <= 2*t.Report:
				act = action{seat: newcomer, refused: fmt.Sprintf("%s at %s is alive", s.ID, s.Address)}
			case s.Voter && !v.spare(s.ID, now, t):
				act = action{seat: newcomer, refused: fmt.Sprintf("%s cannot be removed: the others are no majority", s.ID)}
			default:
				return action{kind: remove, seat: s, why: "replaced by " + id}
			}
			newcomer.ID = ""
			break
		}
		if newcomer.ID != "" {
			return action{kind: admit, seat: newcomer, why: "it asked to join"}
		}
	}
	for _, s := range v.seats {
		gone := v.silent(s.ID, now)
		if gone <= t.Dead {
			continue
		}
		if !s.Voter || voters > min(minVoters, v.configured) && v.spare(s.ID, now, t) {
			return action{kind: remove, seat: s, why: fmt.Sprintf("silent for %v", gone.Round(time.Second))}
		}
	}
	return act
}

func sortedKeys(m map[string]heard) []string { return slices.Sorted(maps.Keys(m)) }
