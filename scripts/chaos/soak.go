package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// soak runs the undisturbed run and then the disturbed one.
func soak(ctx context.Context, o options) (err error) {
	runtime.LockOSThread() // children die with the thread that began them
	if o.steps == 0 {
		o.steps = int64(2*o.faults + 20)
	}
	f := &fleet{options: o, random: rand.New(rand.NewPCG(o.seed, 1)), dir: o.dir}
	if f.dir == "" {
		if f.dir, err = os.MkdirTemp("", "counterpoint-chaos-"); err != nil {
			return err
		}
	} else if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	defer func() {
		if err == nil && !o.keep && o.dir == "" {
			err = os.RemoveAll(f.dir)
		} else if err != nil {
			say("folders and logs are in %s", f.dir)
		}
	}()
	if err := f.build(); err != nil {
		return err
	}
	say("seed %d; again with: go run ./scripts/chaos %s", o.seed, o.again())
	want, took, err := f.undisturbed(ctx)
	if err != nil {
		return err
	}
	say("undisturbed: %d steps in %v, parameters %.16s", o.steps, took.Round(time.Millisecond), want)
	if f.network, err = newNetwork(o.loopback); err != nil {
		return err
	}
	defer f.end()
	if err := f.launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go f.watch.run(ctx)
	m := &measures{}
	begun := time.Now()
	if _, err := f.commit(ctx, begun); err != nil {
		return fmt.Errorf("the first step: %w", err)
	}
	if err := f.storm(ctx, m); err != nil {
		return err
	}
	say("%d faults in %v; the rest of the run is left in peace", m.count(), time.Since(begun).Round(time.Second))
	got, err := f.finish(ctx, want, took)
	if err != nil {
		return err
	}
	if m.count() == 0 {
		return errors.New("the run was over before the first fault: nothing is proven")
	}
	m.print()
	step, _, _ := f.watch.now()
	say("%d faults, %d steps in %v: parameters %.16s, as undisturbed: %v", m.count(), step, time.Since(begun).Round(time.Second), got, got == want)
	return nil
}

// storm does the faults one after another; each waits until the fleet has committed a step after it.
func (f *fleet) storm(ctx context.Context, m *measures) error {
	kinds, total := f.allowed()
	if total == 0 {
		return fmt.Errorf("-kinds %s: none is possible here; there are: %s", f.kinds, strings.Join(names(faults), ", "))
	}
	say("kinds of faults: %s", strings.Join(names(kinds), ", "))
	begun := time.Now()
	for n := 0; n < f.faults && time.Since(begun) < f.limit; n++ {
		if step, _, ended := f.watch.now(); ended != "" || step >= f.steps-2 {
			say("the run is at step %d (%s) after %d faults: it was too short for all", step, ended, n)
			return nil
		}
		pick := f.random.IntN(total)
		i := 0
		for ; pick >= kinds[i].weight; i++ {
			pick -= kinds[i].weight
		}
		if err := f.pause(ctx, 0, 120); err != nil { // a moment within a step
			return err
		}
		h, err := kinds[i].do(ctx, f)
		if err != nil {
			return fmt.Errorf("fault %d, %s: %w", n, kinds[i].name, err)
		}
		if err := f.recovered(ctx, kinds[i].name, h, m); err != nil {
			if errors.Is(err, errEnded) {
				continue
			}
			return fmt.Errorf("fault %d, %s of %s at %s: %w", n, kinds[i].name, h.of(), h.at.Format("15:04:05.000"), err)
		}
		if n%50 == 49 {
			step, _, _ := f.watch.now()
			say("%d faults, step %d", n+1, step)
		}
	}
	return nil
}

func (h hit) of() string {
	if h.victim == nil {
		return "several"
	}
	return h.victim.name
}

// recovered measures the fault: until the loss was noticed, and the longest time without a committed step from the fault until
// one was committed after all was mended.
func (f *fleet) recovered(ctx context.Context, name string, h hit, m *measures) error {
	if _, err := f.commit(ctx, time.Now()); err != nil {
		return err
	}
	m.add(name, pause, f.watch.pause(h.at))
	for _, p := range f.everybody() { // who ended over it, as one whose disk was full, is started again by its service manager
		if !p.alive() {
			if err := p.start(f.binary); err != nil {
				return err
			}
		}
	}
	if h.lost {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		if e, err := f.watch.first(short, h.at, func(e event) bool { return e.Kind == "lost" && strings.HasPrefix(e.Worker, h.victim.name+"-") }); err == nil {
			m.add(name, "detected", e.Time.Sub(h.at))
		}
	}
	return nil
}

// pause is the figure that every fault has.
const pause = "pause"

// patience is how long a fleet may take to commit a step after a fault.
const patience = 60 * time.Second

func (f *fleet) commit(ctx context.Context, after time.Time) (time.Time, error) {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e, err := f.watch.first(short, after, func(e event) bool { return e.Kind == "step" })
	if errors.Is(err, context.DeadlineExceeded) {
		return time.Time{}, fmt.Errorf("no step was committed within %v", patience)
	}
	return e.Time, err
}

// finish waits for the end of the run and holds it against the undisturbed one.
func (f *fleet) finish(ctx context.Context, want string, took time.Duration) (string, error) {
	for begun, last := time.Now(), int64(-1); ; {
		step, _, ended := f.watch.now()
		if strings.HasPrefix(ended, "finished") {
			break
		}
		if ended != "" {
			return "", fmt.Errorf("the run ended as %s at step %d", ended, step)
		}
		if step != last {
			last, begun = step, time.Now()
		}
		if time.Since(begun) > patience+took/10 {
			return "", fmt.Errorf("the run stands still at step %d", step)
		}
		if err := f.pause(ctx, 50, 100); err != nil {
			return "", err
		}
	}
	got, err := f.watch.whole(f.steps)
	if err == nil && got != want {
		err = fmt.Errorf("the parameters are %s, undisturbed they are %s", got, want)
	}
	return got, err
}

// allowed are the kinds that were asked for and that this machine can do.
func (f *fleet) allowed() (kinds []fault, total int) {
	wanted := strings.Split(f.kinds, ",")
	for _, k := range faults {
		if k.able != nil && !k.able(f) || f.kinds != "" && !slices.Contains(wanted, k.name) {
			continue
		}
		kinds, total = append(kinds, k), total+k.weight
	}
	return kinds, total
}

func names(kinds []fault) []string {
	var out []string
	for _, k := range kinds {
		out = append(out, k.name)
	}
	return out
}
