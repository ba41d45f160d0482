package consensus

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func timersOf(t testing.TB, failure time.Duration) Timers {
	t.Helper()
	timers, err := NewTimers(failure)
	if err != nil {
		t.Fatal(err)
	}
	return timers
}

func TestDecide(t *testing.T) {
	timers := timersOf(t, time.Second)
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	well := func(id string, last uint64, since time.Duration) heard {
		return heard{report: report{ID: id, Name: nameOf(id), Address: nameOf(id) + ":1", Last: last}, at: ago(100 * time.Millisecond), well: ago(since)}
	}
	three := []seat{{"a", "a", "a:1", true}, {"b", "b", "b:1", true}, {"c", "c", "c:1", true}}
	with := func(more ...seat) []seat { return append(append([]seat{}, three...), more...) }
	all := map[string]heard{"b": well("b", 100, time.Hour), "c": well("c", 100, time.Hour)}
	plus := func(h ...heard) map[string]heard {
		out := map[string]heard{}
		for k, v := range all {
			out[k] = v
		}
		for _, one := range h {
			out[one.ID] = one
		}
		return out
	}
	without := func(m map[string]heard, ids ...string) map[string]heard {
		for _, id := range ids {
			delete(m, id)
		}
		return m
	}
	moved := well("b", 100, time.Hour)
	moved.Address = "elsewhere:1"
	for _, c := range []struct {
		name  string
		seats []seat
		heard map[string]heard
		began time.Duration
		want  string
	}{
		{"all well", three, all, time.Hour, ""},
		{"a newcomer has no vote", three, plus(well("d", 0, 0)), time.Hour, "admitted without a vote d"},
		{"a newcomer that is behind stays", with(seat{"d", "d", "d:1", false}), plus(well("d", 1, time.Hour)), time.Hour, ""},
		{"a newcomer that was just heard stays", with(seat{"d", "d", "d:1", false}), plus(well("d", 1000, time.Second)), time.Hour, ""},
		{"a newcomer that caught up votes", with(seat{"d", "d", "d:1", false}), plus(well("d", 1000, time.Minute)), time.Hour, "given a vote d"},
		{"a sixth voter is one too many", with(seat{"d", "d", "d:1", true}, seat{"e", "e", "e:1", true}, seat{"f", "f", "f:1", false}), plus(well("d", 1000, time.Hour), well("e", 1000, time.Hour), well("f", 1000, time.Hour)), time.Hour, ""},
		{"a dead newcomer goes", with(seat{"d", "d", "d:1", false}), plus(), time.Hour, "removed d"},
		{"three stay three", three, without(plus(), "c"), time.Hour, ""},
		{"the fourth goes when dead", with(seat{"d", "d", "d:1", true}), plus(), time.Hour, "removed d"},
		{"not while the leader is new", with(seat{"d", "d", "d:1", true}), plus(), time.Minute - time.Second, ""},
		{"not when the rest is no majority", with(seat{"d", "d", "d:1", true}), without(plus(), "b", "c"), time.Hour, ""},
		{"one of five at a time", with(seat{"d", "d", "d:1", true}, seat{"e", "e", "e:1", true}), plus(), time.Hour, "removed d"},
		{"a lost folder: its predecessor goes", three, without(plus(well("c#x", 0, 0)), "c"), time.Hour, "removed c"},
		{"a lost folder: then it is admitted", three[:2], without(plus(well("c#x", 0, 0)), "c"), time.Hour, "admitted without a vote c#x"},
		{"two of one name", three, plus(well("c#x", 0, 0)), time.Hour, "refused c#x"},
		{"a lost folder and another one down", three, without(plus(well("c#x", 0, 0)), "b", "c"), time.Hour, "refused c#x"},
		{"the leader's own name", three, plus(well("a#x", 0, 0)), time.Hour, "refused a#x"},
		{"a member that moved", three, plus(moved), time.Hour, "given a vote b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := view{self: "a", seats: c.seats, heard: c.heard, began: ago(c.began), commit: 1000, configured: 3}
			act := decide(v, now, timers)
			got := fmt.Sprint(act.kind, " ", act.seat.ID)
			switch {
			case act.refused != "":
				got = "refused " + act.seat.ID
			case act.kind == nothing:
				got = ""
			}
			if act.refused != "" && act.seat.ID == "" {
				t.Errorf("refused nobody: %+v", act)
			}
			if got != c.want {
				t.Errorf("decide = %q (%s%s), want %q", got, act.why, act.refused, c.want)
			}
		})
	}
}

// Whatever is heard, a change is committed by a majority that is heard and leaves one.
func TestDecideKeepsQuorum(t *testing.T) {
	timers := timersOf(t, time.Second)
	now := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		v := view{self: "m0", began: now.Add(-time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "began"))), heard: map[string]heard{}, commit: 500, configured: rapid.SampledFrom([]int{1, 3, 5}).Draw(t, "configured")}
		n := rapid.IntRange(1, 7).Draw(t, "seats")
		for i := range n {
			id := fmt.Sprint("m", i)
			v.seats = append(v.seats, seat{ID: id, Name: id, Address: id, Voter: i == 0 || rapid.Bool().Draw(t, "voter")})
		}
		for i := range rapid.IntRange(0, 8).Draw(t, "reports") {
			id := fmt.Sprint("m", rapid.IntRange(0, 8).Draw(t, "id"))
			if rapid.Bool().Draw(t, "new") {
				id += fmt.Sprint("#", i)
			}
			at := now.Add(-time.Duration(rapid.Int64Range(0, int64(2*time.Minute)).Draw(t, "at")))
			v.heard[id] = heard{report: report{ID: id, Name: nameOf(id), Address: nameOf(id), Last: uint64(rapid.IntRange(0, 600).Draw(t, "last"))}, at: at, well: at.Add(-time.Minute)}
		}
		act := decide(v, now, timers)
		if act.kind != remove {
			return
		}
		if act.seat.ID == v.self {
			t.Fatalf("the leader removes itself: %+v", act)
		}
		before, after, heardNow := 0, 0, 0
		for _, s := range v.seats {
			if !s.Voter {
				continue
			}
			before++
			if s.ID == act.seat.ID {
				continue
			}
			after++
			if v.silent(s.ID, now) <= timers.Failure {
				heardNow++
			}
		}
		if act.seat.Voter && (heardNow <= before/2 || heardNow <= after/2) {
			t.Fatalf("removing %s leaves %d heard of %d voters, then %d", act.seat.ID, heardNow, before, after)
		}
	})
}

func TestTimersNest(t *testing.T) {
	for _, failure := range []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Minute} {
		if _, err := NewTimers(failure); err != nil {
			t.Errorf("NewTimers(%v) = %v", failure, err)
		}
	}
	timers := timersOf(t, time.Second)
	timers.Lease = 300 * time.Millisecond
	const want = "failure_timeout 1s: raft lease 300ms does not fit into raft heartbeat 250ms: a leader must step down before others stand"
	if err := timers.Nest(); err == nil || err.Error() != want {
		t.Errorf("Nest() = %v, want %s", err, want)
	}
	if _, err := NewTimers(10 * time.Millisecond); err == nil {
		t.Error("NewTimers(10ms): want an error, Raft takes no such heartbeat")
	}
}
