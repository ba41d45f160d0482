package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// assign decides who works on which run, as far as that is not so already: members with nothing to do change at once,
// the others when their round is over (release). DESIGN.md has the policy.
func (p *planner) assign() {
	p.wanted = map[string]string{}
	if p.settled() {
		return
	}
	targets := deal(p.s, p.seen)
	for _, m := range slices.Clone(p.s.Members) {
		run, dealt := targets[m.Worker]
		switch {
		case !dealt || m.Run == run:
		case (p.s.Idle(&m) || m.Behind) && p.free(&m):
			p.do(&fsm.Assign{Worker: m.Worker, Run: run})
		default:
			p.wanted[m.Worker] = run
		}
	}
}

// settled reports, quickly, that there is nothing to deal: one run works, all work on it, and it takes all.
func (p *planner) settled() bool {
	var one *fsm.Run
	for _, r := range p.s.Runs {
		if r.State == fsm.Running && p.seen.of(r.ID).Ready {
			if one != nil || len(r.Settings.Labels) > 0 || r.Settings.WorkersMax > 0 {
				return false
			}
			one = r
		}
	}
	return one == nil || !slices.ContainsFunc(p.s.Members, func(m fsm.Member) bool { return m.Run != one.ID })
}

// release lets members go that other runs want and that the run at hand no longer needs: its round is over, and what
// they alone hold is in a checkpoint.
func (p *planner) release() {
	for _, m := range p.s.Of(p.at) {
		if run, wanted := p.wanted[m.Worker]; wanted && p.free(&m) && p.do(&fsm.Assign{Worker: m.Worker, Run: run}) {
			delete(p.wanted, m.Worker)
		}
	}
}

// order returns the runs that take workers: the highest priority first, then as they were submitted.
func order(s *fsm.State, seen *Seen) []*fsm.Run {
	var runs []*fsm.Run
	for _, r := range s.Runs {
		if r.State == fsm.Running && seen.of(r.ID).Ready {
			runs = append(runs, r)
		}
	}
	slices.SortStableFunc(runs, func(a, b *fsm.Run) int { return cmp.Compare(b.Priority, a.Priority) })
	return runs
}

// table is who may be dealt, and who has them.
type table struct {
	members   []fsm.Member        // heard, and staying
	holder    map[string]*fsm.Run // by worker: the run that works with it; none = idle
	submitted map[string]int      // place of a run
	dealt     map[string]string
}

func newTable(s *fsm.State, seen *Seen) *table {
	t := &table{holder: map[string]*fsm.Run{}, submitted: map[string]int{}, dealt: map[string]string{}}
	working := map[string]*fsm.Run{}
	for i, r := range s.Runs {
		if t.submitted[r.ID] = i; r.State.Working() {
			working[r.ID] = r
		}
	}
	for _, m := range s.Members {
		w := seen.Workers[m.Worker]
		if w == nil || !w.Lost.IsZero() || w.Leaving != "" {
			continue
		}
		t.members = append(t.members, m)
		if r := working[m.Run]; r != nil {
			t.holder[m.Worker] = r
		}
	}
	return t
}

// deal returns the run of every member that is to have one, "" for one that its run may not keep.
func deal(s *fsm.State, seen *Seen) map[string]string {
	t := newTable(s, seen)
	for _, r := range order(s, seen) {
		mine, others := t.offered(r, seen.of(r.ID))
		if len(mine)+len(others) < max(1, r.Settings.WorkersMin) {
			for _, m := range mine { // it waits: who comes later may have them
				delete(t.holder, m.Worker)
			}
			continue
		}
		all := append(mine, others...)
		if most := r.Settings.WorkersMax; most > 0 && len(all) > most {
			all = all[:most]
		}
		for _, m := range all {
			t.dealt[m.Worker] = r.ID
		}
		for _, m := range mine[min(len(all), len(mine)):] { // beyond its most: for others, or for nobody
			delete(t.holder, m.Worker)
		}
	}
	has := map[string]int{}
	for _, run := range t.dealt {
		has[run]++
	}
	for _, m := range t.members {
		r := s.Run(m.Run)
		if _, dealt := t.dealt[m.Worker]; dealt || r == nil || r.State != fsm.Running || !seen.of(r.ID).Ready {
			continue
		}
		// Nobody else wants it. Its run keeps it, unless it does not fit any more or is beyond the most.
		if most := r.Settings.WorkersMax; !fits(r, &m, seen.of(r.ID)) || most > 0 && has[r.ID] >= most {
			t.dealt[m.Worker] = ""
		}
	}
	return t.dealt
}

// offered returns the members that a run works with already and those that it may take, the best first: idle ones, of
// which those first that worked on it before, then those of runs of lower priority, the lowest and latest first.
func (t *table) offered(r *fsm.Run, v *RunSeen) (mine, others []fsm.Member) {
	type candidate struct {
		fsm.Member
		idle, before    bool
		priority, place int
	}
	var list []candidate
	for i, m := range t.members {
		_, dealt := t.dealt[m.Worker]
		if dealt || !fits(r, &m, v) {
			continue
		}
		switch h := t.holder[m.Worker]; {
		case h == nil:
			list = append(list, candidate{Member: m, idle: true, before: m.Run == r.ID, place: i})
		case h.ID == r.ID:
			mine = append(mine, m)
		case h.Priority < r.Priority && h.State == fsm.Running:
			// Of runs of one priority the latest gives first, and of its members the last to join.
			list = append(list, candidate{Member: m, priority: h.Priority, place: -len(t.members)*t.submitted[h.ID] - i})
		}
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(before(a.idle, b.idle), before(a.before, b.before), cmp.Compare(a.priority, b.priority), cmp.Compare(a.place, b.place))
	})
	for _, c := range list {
		others = append(others, c.Member)
	}
	return mine, others
}

// before orders what is so before what is not.
func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// fits reports whether a member may work on a run: it has the labels, and computes as the run does.
func fits(r *fsm.Run, m *fsm.Member, v *RunSeen) bool {
	for _, label := range r.Settings.Labels {
		if !slices.Contains(m.Labels, label) {
			return false
		}
	}
	if r.Numerics == "" {
		return Suits(m.Numerics, v.Kernels)
	}
	return r.Settings.Mixed || m.Numerics == r.Numerics
}

// Suits reports whether a worker of a numerics id uses the kernels asked for; those of other devices have none.
func Suits(numerics, kernels string) bool {
	return kernels == "" || !strings.HasPrefix(numerics, "cpu/") || strings.HasSuffix(numerics, "/"+kernels)
}

// Queued says in words what a run waits for that is running and has too few workers; "" = it has enough.
func Queued(s *fsm.State, seen *Seen, r *fsm.Run) string {
	need, has := max(1, r.Settings.WorkersMin), len(s.Of(r.ID))
	if r.State != fsm.Running || has >= need {
		return ""
	}
	matching, first := 0, map[string]int{}
	var names []string
	for i := range s.Members {
		m := &s.Members[i]
		if !fits(r, m, seen.of(r.ID)) {
			continue
		}
		matching++
		if h := s.Run(m.Run); h != nil && h.ID != r.ID && h.State.Working() {
			if first[h.Name]++; first[h.Name] == 1 {
				names = append(names, h.Name)
			}
		}
	}
	what := fmt.Sprintf("%d workers", need)
	if need == 1 {
		what = "a worker"
	}
	if len(r.Settings.Labels) > 0 {
		what += " with " + strings.Join(r.Settings.Labels, ", ")
	}
	switch {
	case len(names) > 0:
		return fmt.Sprintf("waits for %s: of %d that match, %s has %d", what, matching, names[0], first[names[0]])
	case matching > 0:
		return fmt.Sprintf("waits for %s: %d match", what, matching)
	case len(s.Members) > 0:
		return fmt.Sprintf("waits for %s: none of %d matches", what, len(s.Members))
	}
	return fmt.Sprintf("waits for %s: none has joined", what)
}
