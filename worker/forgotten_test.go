package worker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/trainer"
)

// muted is a link that falls silent for a while when the worker tells of a step's update.
type muted struct {
	Link
	step int64
	mu   sync.Mutex
	till time.Time
}

func (m *muted) silent() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Before(m.till)
}

func (m *muted) Applied(ctx context.Context, a *wire.Applied) (*wire.Verdict, error) {
	m.mu.Lock()
	if a.Step == m.step && m.till.IsZero() {
		m.till = time.Now().Add(2 * officeTimeout)
	}
	m.mu.Unlock()
	if m.silent() {
		return nil, errLost
	}
	return m.Link.Applied(ctx, a)
}

func (m *muted) Beat(ctx context.Context, b *wire.Beat) (*wire.Pulse, error) {
	if m.silent() {
		return nil, errLost
	}
	return m.Link.Beat(ctx, b)
}

// The only worker is expired when it has made an update that nobody has heard of. It comes back with parameters that
// were never committed, takes those that the run goes on from, and the step is executed again.
func TestNodeForgetsTheOnlyWorkerAfterItsUpdate(t *testing.T) {
	for _, step := range []int64{0, 3} { // the round stays in flight; the run is taken back
		t.Run(fmt.Sprint("step ", step), func(t *testing.T) {
			leaks(t)
			o := newOffice(t, 8)
			o.open()
			o.adapt = func(c *Config) { c.Link = &muted{Link: c.Link, step: step} }
			o.hire("w")
			o.check()
		})
	}
}

// A checkpoint that the leader found good and the worker cannot load ends the worker, with the reason.
func TestNodeCheckpointThatDoesNotLoad(t *testing.T) {
	leaks(t)
	o := newOffice(t, 30)
	o.open()
	o.hire("w")
	waitFor(t, func() bool { return o.steps() > 7 })
	o.close()
	o.adapt = func(c *Config) {
		c.Load = func(context.Context, Run, string) (trainer.State, error) {
			return trainer.State{}, errors.New("adapter.safetensors: 3 tensors, want 4")
		}
	}
	o.open()
	p := o.hire("w")
	select {
	case err := <-p.done:
		p.done <- err
		if err == nil || !strings.Contains(err.Error(), "try 5: adapter.safetensors: 3 tensors") {
			t.Errorf("Run = %v, want what is wrong with the checkpoint", err)
		}
	case <-time.After(10 * officeTimeout):
		t.Error("the worker tries on and on")
	}
	o.stop()
	<-o.done
	o.done <- nil
}

// An embedding that is not finite in an evaluation ends the run, and says where.
func TestNodeNonFiniteEvaluation(t *testing.T) {
	for workers := 1; workers <= 2; workers++ {
		t.Run(fmt.Sprint("W=", workers), func(t *testing.T) {
			leaks(t)
			o := newOffice(t, 20)
			o.options.Feed = toyFeed{Language: true}
			o.change = append(o.change, func(t *toy) { t.Language, t.Blind = true, true })
			o.open()
			for i := range workers {
				o.hire(fmt.Sprint("w", i))
			}
			select {
			case err := <-o.done:
				o.done <- err
				if err == nil || !strings.Contains(err.Error(), "failed after 6 steps: evaluation of dev after 6 steps: shard 4 of 9") {
					t.Errorf("the run ended with %v, want failed, naming suite and shard", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("the run goes on after 10 s")
			}
		})
	}
}

// A round that was given up leaves no closing behind: its step is executed again.
func TestViewForgetsTheClosingOfALostRound(t *testing.T) {
	v := newView()
	v.offer(&wire.Round{Revision: 1, Number: 4, Kind: wire.Train, Step: 2, Closing: &wire.Closing{Number: 1}})
	if v.closing(2) == nil {
		t.Fatal("the closing in flight is not there")
	}
	v.offer(&wire.Round{Revision: 2, Number: 4, Step: 3, Commit: &wire.Commit{Round: 4, Step: 3}})
	if v.closing(2) == nil {
		t.Error("the closing of a committed step is gone: followers need it")
	}
	v = newView()
	v.offer(&wire.Round{Revision: 1, Number: 4, Kind: wire.Train, Step: 2, Closing: &wire.Closing{Number: 1}})
	v.offer(&wire.Round{Revision: 2, Number: 4, Step: 2, State: wire.Paused})
	if c := v.closing(2); c != nil {
		t.Errorf("closing %+v of a round that was given up", c)
	}
}

// Under a complete closing a worker's sum is not asked for: no shard is computed again to be taken out of it.
func TestCompleteClosingCorrectsNothing(t *testing.T) {
	f := &fleet{session: &session{id: "w"}, begun: map[work]int64{{trainer.Embed, 1}: 1, {trainer.Backward, 5}: 1, {trainer.Backward, 2}: 1}}
	got := f.describe(&wire.Closing{Number: 3, Complete: true, Loss: 1.5})
	if want := (trainer.Closing{Number: 3, Shards: []int{2, 5}, Loss: 1.5}); !reflect.DeepEqual(got, want) {
		t.Errorf("describe = %+v, want %+v", got, want)
	}
}
