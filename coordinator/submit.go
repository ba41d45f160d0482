package coordinator

import (
	"errors"
	"fmt"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// asked is a submission whose data are being opened, or that was refused.
type asked struct {
	waiting []func(*wire.SubmitReply)
	since   time.Time // of the oldest that waits
	answer  *wire.SubmitReply
	at      time.Time // of the answer
}

// Patience of submissions.
const (
	answerWithin = 2 * time.Second // a longer one is told that its data are being prepared
	keepAnswer   = time.Minute     // a refusal is remembered, for whoever did not hear it
)

// submit adds a run, once for every key. Its data are opened beside the loop first: what cannot be led is refused in
// plain words and leaves no trace.
func (l *leader) submit(q *wire.SubmitRequest, reply func(*wire.SubmitReply)) {
	if err := wire.CheckName("key", q.Key); err != nil {
		reply(&wire.SubmitReply{Err: err.Error()})
		return
	}
	for _, run := range l.machine.State().Runs {
		if run.Key == q.Key {
			reply(&wire.SubmitReply{Run: run.ID, Existing: true})
			return
		}
	}
	if l.o.Host == nil {
		reply(&wire.SubmitReply{Err: "this coordinator leads one run and takes no others"})
		return
	}
	a := l.asked[q.Key]
	if a != nil && a.answer != nil {
		reply(a.answer)
		return
	}
	if a != nil {
		if len(a.waiting) == 0 {
			a.since = time.Now()
		}
		a.waiting = append(a.waiting, reply)
		return
	}
	a = &asked{waiting: []func(*wire.SubmitReply){reply}, since: time.Now()}
	l.asked[q.Key] = a
	l.background.Go(func() {
		h, err := l.openHost(q.File)
		kept := "key " + q.Key // no run's id: what is open is closed with the node, whatever happens to this question
		if err == nil && !l.hosts.put(kept, h) {
			h.close(l.o.Log)
			return
		}
		l.post(func(now *leader) {
			if h := l.hosts.take(kept); now != l { // of another term: whoever asked asks again
				if h != nil {
					h.close(l.o.Log)
				}
				return
			}
			answer := l.admit(q, h, err)
			for _, reply := range a.waiting {
				reply(answer)
			}
			if a.waiting, a.answer, a.at = nil, answer, time.Now(); answer.Err == "" {
				delete(l.asked, q.Key) // the log knows it
			}
		})
	})
}

// admit commits a run whose data are open.
func (l *leader) admit(q *wire.SubmitRequest, h *host, err error) *wire.SubmitReply {
	if err != nil {
		return &wire.SubmitReply{Err: err.Error()}
	}
	for _, run := range l.machine.State().Runs {
		same := run.Name == h.Name && run.Identity == h.Identity && run.State != fsm.Cancelled
		switch {
		case run.Key == q.Key || same:
			if open, _, _ := l.hosts.get(run.ID); !same || run.State.Over() || open != nil || !l.hosts.put(run.ID, h) {
				h.close(l.o.Log)
			}
			return &wire.SubmitReply{Run: run.ID, Existing: true}
		case run.Store == h.Folder && !run.State.Over():
			h.close(l.o.Log)
			return &wire.SubmitReply{Err: fmt.Sprintf("checkpoint.dir %s is that of run %s, which is %s: give this run another name or folder", h.Folder, run.ID, run.State)}
		}
	}
	file := h.File
	if file == nil {
		file = q.File
	}
	id := l.freshID(h.Name, h.Identity)
	l.hosts.put(id, h)
	if err := l.propose(&fsm.Submit{
		ID: id, Name: h.Name, Identity: h.Identity, Identify: h.Identify, Spec: h.Spec, Store: h.Folder, Data: h.Feed.Digest(),
		Steps: h.Steps, Settings: h.Settings, File: file, Key: q.Key, Priority: q.Priority,
	}); err != nil {
		if l.hosts.take(id) != nil {
			h.close(l.o.Log)
		}
		if !errors.Is(err, fsm.ErrRejected) {
			return &wire.SubmitReply{Preparing: true} // leadership may be gone: it is asked again
		}
		return &wire.SubmitReply{Err: err.Error()}
	}
	return &wire.SubmitReply{Run: id}
}

// patience answers those who have waited long, and forgets old answers.
func (l *leader) patience(now time.Time) {
	for key, a := range l.asked {
		switch {
		case a.answer != nil && now.Sub(a.at) > keepAnswer:
			delete(l.asked, key)
		case len(a.waiting) > 0 && now.Sub(a.since) > answerWithin:
			for _, reply := range a.waiting {
				reply(&wire.SubmitReply{Preparing: true})
			}
			a.waiting = nil
		}
	}
}
