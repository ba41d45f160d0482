package object

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// spool is a folder of this machine: checkpoints that are not in the bucket yet, and those that were fetched from it.
type spool struct {
	*checkpoints.Local
	dir   string
	bound int64
	mu    sync.Mutex // one eviction at a time
}

// pending begins the names of the marks of checkpoints that wait for their upload.
const pending = ".pending-"

// inUse is how long a checkpoint stays after its last use, whatever the bound.
const inUse = time.Minute

func newSpool(dir string, bound int64) *spool {
	return &spool{Local: checkpoints.NewLocal(dir), dir: dir, bound: bound}
}

func (s *spool) mark(name string) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, pending+name), nil, 0o644)
}

// uploaded takes the mark from a checkpoint, and from those before it: a newer one is safe.
func (s *spool) uploaded(name string) {
	for _, other := range s.waiting() {
		if other <= name {
			_ = os.Remove(filepath.Join(s.dir, pending+other))
		}
	}
}

// waiting returns the names that wait for their upload, oldest first.
func (s *spool) waiting() (out []string) {
	entries, _ := os.ReadDir(s.dir) // sorted; none if it is not there
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), pending); ok {
			out = append(out, name)
		}
	}
	return out
}

// pinned begins the names of the marks of checkpoints that a process uses: .pin-NAME-PID.
const pinned = ".pin-"

// Pin keeps a checkpoint of the spool on this machine for as long as this process lives.
func (s *Store) Pin(name string) error {
	if err := os.MkdirAll(s.spool.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.spool.dir, fmt.Sprintf("%s%s.%d", pinned, name, os.Getpid())), nil, 0o644)
}

// pins returns the names that living processes use, and removes the marks of dead ones.
func (s *spool) pins() map[string]bool {
	out := map[string]bool{}
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), pinned)
		name, id, _ := strings.Cut(rest, ".")
		if !ok {
			continue
		}
		if pid, err := strconv.Atoi(id); err == nil && unix.Kill(pid, 0) != unix.ESRCH {
			out[name] = true
		} else {
			_ = os.Remove(filepath.Join(s.dir, e.Name()))
		}
	}
	return out
}

// remove removes a checkpoint and its mark.
func (s *spool) remove(ctx context.Context, name string) {
	_ = s.Remove(ctx, name)
	_ = os.Remove(filepath.Join(s.dir, pending+name))
}

// touch says that a checkpoint is in use.
func (s *spool) touch(name string) {
	now := time.Now()
	_ = os.Chtimes(s.Path(name), now, now)
}

// evict brings the spool below its bound: first what is in the bucket too, least recently used first, then what waits and
// is not the newest. That one stays until it is uploaded.
func (s *spool) evict(ctx context.Context, keep string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	type held struct {
		name    string
		size    int64
		used    time.Time
		waiting bool
	}
	waiting := s.waiting()
	newest := ""
	if len(waiting) > 0 {
		newest = waiting[len(waiting)-1]
	}
	names, _ := s.List(ctx)
	used := s.pins()
	var all []held
	var total int64
	for _, name := range names {
		info, err := os.Stat(s.Path(name))
		if err != nil {
			continue
		}
		h := held{name, folderSize(s.Path(name)), info.ModTime(), slices.Contains(waiting, name)}
		total += h.size
		if name != keep && name != newest && !used[name] && (h.waiting || time.Since(h.used) > inUse) {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b held) int {
		if a.waiting != b.waiting {
			return map[bool]int{false: -1, true: 1}[a.waiting]
		}
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.name, b.name))
	})
	for _, h := range all {
		if total <= s.bound {
			return
		}
		s.remove(ctx, h.name)
		total -= h.size
	}
}

func folderSize(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}
