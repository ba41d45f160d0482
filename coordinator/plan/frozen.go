package plan

import (
	"fmt"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// frozen sends members away whose frozen weights changed in their memory. What they computed since their last check may be
// in steps that are committed: those are taken back, by name, and executed again from the newest checkpoint before.
func (p *planner) frozen() {
	sound, why := int64(-1), ""
	for _, m := range p.s.Of(p.at) {
		w := p.seen.Workers[m.Worker]
		if w == nil || w.Run != p.at || w.Spoiled == "" {
			continue
		}
		if w.State >= 0 && w.Checked >= 0 && (sound < 0 || w.Checked < sound) {
			sound, why = w.Checked, fmt.Sprintf("worker %s: %s", m.Worker, w.Spoiled)
		}
		p.do(&fsm.Expire{Worker: m.Worker, Quarantine: true, Reason: fmt.Sprintf("%s; they were sound at step %d", w.Spoiled, max(w.Checked, 0))})
	}
	if sound < 0 {
		return
	}
	r := p.run()
	if sound >= r.Committed() { // only the round in flight may have something of it
		if r.Round != nil {
			p.do(&fsm.Abandon{Run: r.ID, Round: r.Round.Number})
		}
		return
	}
	back := fsm.Rewind{Run: r.ID, Reason: why}
	for _, m := range r.Manifests {
		if m.Step <= sound {
			back.Step, back.Path = m.Step, m.Path
		}
	}
	p.do(&back)
}

// unlike returns why a member's frozen weights are not those of the run: the digest that most full members have.
func (p *planner) unlike(m *fsm.Member, w *Worker) string {
	if w.Frozen == "" {
		return ""
	}
	counts, most := map[string]int{}, ""
	for _, name := range p.s.Full(p.at) {
		o := p.seen.Workers[name]
		if o == nil || o.Frozen == "" || p.s.Member(name).Numerics != m.Numerics {
			continue
		}
		if counts[o.Frozen]++; counts[o.Frozen] > counts[most] {
			most = o.Frozen
		}
	}
	if most == "" || most == w.Frozen {
		return ""
	}
	return fmt.Sprintf("its frozen weights have digest %s, those of the fleet have %s: it loaded other files", short(w.Frozen), short(most))
}

// unchecked reports whether some full member has not yet hashed its frozen weights after the run's last step.
func (p *planner) unchecked() bool {
	for _, name := range p.s.Full(p.at) {
		if w := p.seen.Workers[name]; w != nil && w.Frozen != "" && w.Checked < p.run().Cursor && w.Leaving == "" {
			return true
		}
	}
	return false
}
