package checkpoints

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// unsynced is the disk without waiting for it, which tests need not.
type unsynced struct{ disk }

func (unsynced) SyncDir(string) error { return nil }

func (u unsynced) Create(name string) (file, error) {
	f, err := u.disk.Create(name)
	return unsyncedFile{f}, err
}

type unsyncedFile struct{ file }

func (unsyncedFile) Sync() error { return nil }

// faulty is a disk that fails at its Nth operation: with an error for that one only, or (crash) for good, as if the
// process had died there.
type faulty struct {
	unsynced
	left  int // operations until the fault
	crash bool
	short bool // a failing write stores half of its bytes and reports no error
	fault error
}

func (f *faulty) next() error {
	f.left--
	if f.left == 0 || f.left < 0 && f.crash {
		return f.fault
	}
	return nil
}

func (f *faulty) MkdirTemp(dir, pattern string) (string, error) {
	if err := f.next(); err != nil {
		return "", err
	}
	return f.unsynced.MkdirTemp(dir, pattern)
}

func (f *faulty) Create(name string) (file, error) {
	if err := f.next(); err != nil {
		return nil, err
	}
	out, err := f.unsynced.Create(name)
	return &faultyFile{out, f}, err
}

func (f *faulty) Rename(from, to string) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.unsynced.Rename(from, to)
}

func (f *faulty) RemoveAll(name string) error {
	if f.crash && f.left <= 0 {
		return f.fault // the dead do not clean up
	}
	return f.unsynced.RemoveAll(name)
}

func (f *faulty) SyncDir(name string) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.unsynced.SyncDir(name)
}

type faultyFile struct {
	file
	fs *faulty
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.fs.next(); err != nil {
		n, werr := f.file.Write(p[:len(p)/2])
		if f.fs.short && !f.fs.crash {
			return n, werr
		}
		return n, err
	}
	return f.file.Write(p)
}

func (f *faultyFile) Sync() error {
	if err := f.fs.next(); err != nil {
		return err
	}
	return f.file.Sync()
}

// TestFaults lets every single operation of a write fail once, in each way. The checkpoint before stays the newest
// usable one or the new one is whole; nothing temporary stays; and the next attempt works.
func TestFaults(t *testing.T) {
	ctx := context.Background()
	for _, mode := range []faulty{{fault: syscall.ENOSPC}, {fault: syscall.EIO, short: true}, {fault: errors.New("killed"), crash: true}} {
		for _, replacing := range []bool{false, true} {
			ended := false
			for at := 1; !ended; at++ {
				ended = testFault(ctx, t, mode, replacing, at)
				if at > 1000 {
					t.Fatal("a write has more than 1000 operations")
				}
			}
		}
	}
}

// testFault reports whether the write came through, so that there are no more operations to fail.
func testFault(ctx context.Context, t *testing.T, mode faulty, replacing bool, at int) bool {
	dir := t.TempDir()
	healthy := &Series{Store: &Local{dir, unsynced{}}}
	mustWrite(t, healthy, fullSnapshot(1))
	if replacing { // a damaged checkpoint of the same step is in the way
		mustWrite(t, healthy, fullSnapshot(2))
		if err := os.Truncate(filepath.Join(dir, Name(2), StateName), 1); err != nil {
			t.Fatal(err)
		}
	}
	mode.left = at
	series := &Series{Store: &Local{dir, &mode}}
	_, err := series.Write(ctx, fullSnapshot(2))
	if mode.left > 0 {
		if err != nil {
			t.Fatalf("write without a fault: %v", err)
		}
		return true
	}
	if err == nil { // a rename that failed once was tried another way
		if e, _, err := healthy.Newest(ctx); err != nil || e.Step != 2 {
			t.Errorf("%v at operation %d: Write() saw no error, but Newest() = %v, %v", mode.fault, at, e, err)
		}
	} else if !mode.short && !errors.Is(err, mode.fault) {
		t.Errorf("%v at operation %d: Write() = %v", mode.fault, at, err)
	}
	if mode.crash {
		if err := NewLocal(dir).Sweep(0); err != nil {
			t.Fatal(err)
		}
	}
	if e, _, err := healthy.Newest(ctx); err != nil || e.Step != 1 && e.Step != 2 {
		t.Errorf("%v at operation %d: Newest() = %v, %v", mode.fault, at, e, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%v at operation %d: %s was left behind", mode.fault, at, e.Name())
		}
	}
	mustWrite(t, healthy, fullSnapshot(2))
	if e, damaged, err := healthy.Newest(ctx); err != nil || e.Step != 2 || len(damaged) > 0 {
		t.Errorf("%v at operation %d: after the next attempt Newest() = step %d, %v, %v", mode.fault, at, e.Step, damaged, err)
	}
	return false
}

func TestCancelledWriteLeavesNothing(t *testing.T) {
	series, dir := newSeries(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := series.Write(ctx, fullSnapshot(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Write() = %v, want %v", err, context.Canceled)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSweepKeepsWritersAlive(t *testing.T) {
	dir := t.TempDir()
	busy := filepath.Join(dir, temporary+"step-00000001-1")
	if err := os.Mkdir(busy, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := NewLocal(dir).Sweep(staleAfter); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(busy); err != nil {
		t.Error("Sweep() removed a folder that is being written")
	}
	if err := NewLocal(dir).Sweep(0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(busy); err == nil {
		t.Error("Sweep(0) kept a leftover")
	}
}
