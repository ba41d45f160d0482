package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// fault is something that happens to a fleet. Its function does it, says to whom and when, and undoes it before it returns, for
// nobody is to wait for an operator.
type fault struct {
	name   string
	weight int
	able   func(*fleet) bool // nil = always
	do     func(context.Context, *fleet) (hit, error)
}

// hit is what happened.
type hit struct {
	at     time.Time // the process died, froze or was cut off at this moment
	victim *host
	lost   bool // a worker that the leader must find out to be lost
}

var faults = []fault{
	{"worker killed", 20, nil, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.worker()
		at := time.Now()
		h.kill()
		return hit{at, h, true}, f.back(ctx, h, 100, 1500)
	}},
	{"worker stopped", 10, nil, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.worker()
		at := time.Now()
		h.signal(syscall.SIGSTOP)
		err := f.pause(ctx, 1200, 3000)
		h.signal(syscall.SIGCONT)
		return hit{at, h, true}, err
	}},
	{"worker stopped for a moment", 6, nil, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.worker()
		at := time.Now()
		h.signal(syscall.SIGSTOP)
		err := f.pause(ctx, 20, 500)
		h.signal(syscall.SIGCONT)
		return hit{at, h, false}, err
	}},
	{"worker drained", 8, nil, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.worker()
		at := time.Now()
		if !h.leave(10 * f.timeout) {
			return hit{at, h, false}, fmt.Errorf("%s did not drain within %v", h.name, 10*f.timeout)
		}
		return hit{at, h, false}, f.back(ctx, h, 0, 500)
	}},
	{"all workers killed", 3, nil, func(ctx context.Context, f *fleet) (hit, error) {
		at := time.Now()
		for _, h := range f.workers {
			h.kill()
		}
		return hit{at, nil, false}, f.back(ctx, nil, 0, 500)
	}},
	{"leader killed", 20, several, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.leader()
		at := time.Now()
		h.kill()
		return hit{at, h, false}, f.back(ctx, h, 1000, 2500)
	}},
	{"leader stopped", 6, several, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.leader()
		at := time.Now()
		h.signal(syscall.SIGSTOP)
		err := f.pause(ctx, 1200, 3000)
		h.signal(syscall.SIGCONT)
		return hit{at, h, false}, err
	}},
	{"leader asked to leave", 10, several, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.leader()
		at := time.Now()
		if !h.leave(10 * f.timeout) {
			return hit{at, h, false}, fmt.Errorf("%s did not leave within %v", h.name, 10*f.timeout)
		}
		return hit{at, h, false}, f.back(ctx, h, 200, 1000)
	}},
	{"follower killed", 8, several, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.follower()
		at := time.Now()
		h.kill()
		return hit{at, h, false}, f.back(ctx, h, 100, 1500)
	}},
	{"everything killed", 2, nil, func(ctx context.Context, f *fleet) (hit, error) {
		at := time.Now()
		for _, h := range f.everybody() {
			h.signal(syscall.SIGKILL)
		}
		for _, h := range f.everybody() {
			h.kill()
		}
		return hit{at, nil, false}, f.back(ctx, nil, 0, 300)
	}},
	{"worker cut off", 6, separate, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.worker()
		return f.sever(ctx, h, true, f.everybody(), f.everybody())
	}},
	{"worker not heard", 6, separate, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.worker()
		return f.sever(ctx, h, true, f.everybody(), nil)
	}},
	{"leader cut off", 6, separate, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.leader()
		return f.sever(ctx, h, false, f.everybody(), f.everybody())
	}},
	{"leader not heard", 5, separate, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.leader()
		return f.sever(ctx, h, false, f.coordinators, nil)
	}},
	{"leader hears nobody", 5, separate, func(ctx context.Context, f *fleet) (hit, error) {
		h := f.leader()
		return f.sever(ctx, h, false, nil, f.coordinators)
	}},
	{"slow link", 4, nil, func(ctx context.Context, f *fleet) (hit, error) {
		at := time.Now()
		f.link.rate.Store(64<<10 + f.random.Int64N(256<<10))
		err := f.pause(ctx, 500, 2000)
		f.link.rate.Store(0)
		return hit{at, f.workers[len(f.workers)-1], false}, err
	}},
	{"link reset", 6, nil, func(ctx context.Context, f *fleet) (hit, error) {
		at := time.Now()
		f.link.reset()
		return hit{at, f.workers[len(f.workers)-1], false}, nil
	}},
	{"link held", 4, nil, func(ctx context.Context, f *fleet) (hit, error) {
		at := time.Now()
		f.link.held.Store(true)
		err := f.pause(ctx, 100, 2000)
		f.link.held.Store(false)
		return hit{at, f.workers[len(f.workers)-1], false}, err
	}},
	{"disk full", 4, func(f *fleet) bool { return len(f.disks) > 0 }, fill},
	{"bit flipped in a checkpoint", 3, nil, flip},
}

func several(f *fleet) bool  { return len(f.coordinators) > 2 }
func separate(f *fleet) bool { return f.network != nil }

// sever throws away what one host sends to some and what others send to it, for a while.
func (f *fleet) sever(ctx context.Context, h *host, lost bool, to, from []*host) (hit, error) {
	at := time.Now()
	var errs []error
	each := func(do func(a, b *host) error) {
		for _, o := range to {
			if o != h {
				errs = append(errs, do(h, o))
			}
		}
		for _, o := range from {
			if o != h {
				errs = append(errs, do(o, h))
			}
		}
	}
	each(f.network.block)
	errs = append(errs, f.pause(ctx, 1200, 3500))
	each(f.network.unblock)
	return hit{at, h, lost}, errors.Join(errs...)
}

// fill fills a coordinator's disk until nothing more fits, and makes room again after a while. A process that ends over it is
// started again.
func fill(ctx context.Context, f *fleet) (hit, error) {
	h := f.disks[f.random.IntN(len(f.disks))]
	at := time.Now()
	name := filepath.Join(h.dir, "ballast")
	ballast, err := os.Create(name)
	if err != nil {
		return hit{}, err
	}
	block := make([]byte, 1<<20)
	for len(block) > 0 {
		if _, err := ballast.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	err = errors.Join(ballast.Close(), f.pause(ctx, 500, 2500), os.Remove(name))
	return hit{at, h, false}, errors.Join(err, f.back(ctx, h, 0, 200))
}

// flip changes one bit of the newest checkpoint and then kills all who hold the parameters: the damage must be found, named
// and gone around.
func flip(ctx context.Context, f *fleet) (hit, error) {
	var newest string
	err := filepath.WalkDir(filepath.Join(f.dir, "checkpoints"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".safetensors") && filepath.Dir(path) >= filepath.Dir(newest) && strings.Contains(path, "step-") {
			newest = path
		}
		return nil
	})
	if err != nil || newest == "" {
		return hit{at: time.Now()}, err // there is none yet: the fault is the death of all workers alone
	}
	at := time.Now()
	file, err := os.OpenFile(newest, os.O_RDWR, 0)
	if err == nil {
		var info os.FileInfo
		if info, err = file.Stat(); err == nil && info.Size() > 0 {
			b, where := make([]byte, 1), f.random.Int64N(info.Size())
			if _, err = file.ReadAt(b, where); err == nil {
				b[0] ^= 1 << f.random.IntN(8)
				_, err = file.WriteAt(b, where)
			}
		}
		err = errors.Join(err, file.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // retention may remove it under our hands
		return hit{}, err
	}
	for _, h := range f.workers {
		h.kill()
	}
	return hit{at, nil, false}, f.back(ctx, nil, 0, 300)
}

func (f *fleet) worker() *host { return f.workers[f.random.IntN(len(f.workers))] }

func (f *fleet) leader() *host {
	if _, h, _ := f.watch.now(); h != nil {
		return h
	}
	return f.coordinators[0]
}

func (f *fleet) follower() *host {
	for leader := f.leader(); ; {
		if h := f.coordinators[f.random.IntN(len(f.coordinators))]; h != leader {
			return h
		}
	}
}

// back starts a host again, or everybody, after a while between low and high milliseconds.
func (f *fleet) back(ctx context.Context, h *host, low, high int) error {
	err := f.pause(ctx, low, high)
	hosts := []*host{h}
	if h == nil {
		hosts = f.everybody()
	}
	for _, h := range hosts {
		err = errors.Join(err, h.start(f.binary))
	}
	return err
}

func (f *fleet) pause(ctx context.Context, low, high int) error {
	select {
	case <-time.After(time.Duration(low+f.random.IntN(high-low+1)) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
