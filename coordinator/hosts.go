package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
)

// host is a run that this process can lead. It outlives terms: who leads again opens nothing again.
type host struct {
	*Hosted
	batches *batches
	files   *files
}

func newHost(h *Hosted) *host {
	if h.Suites != nil {
		h.Settings.Suites = h.Suites.Names()
	}
	return &host{Hosted: h, batches: newBatches(h.Feed, h.Suites), files: newFiles(h.Submission, h.Suites)}
}

func (h *host) close(log *slog.Logger) {
	if h.Close == nil {
		return
	}
	if err := h.Close(); err != nil {
		log.Warn("run not closed", "run", h.Name, "error", err)
	}
}

// check compares what is hosted with the run of the log.
func (h *host) check(run *fsm.Run) error {
	if run.Identity != h.Identity {
		return &IdentityError{run.ID, string(run.State), differences(run.Identify, h.Identify)}
	}
	if found := h.Feed.Digest(); run.Data != found {
		return &DataError{run.ID, run.Data, found}
	}
	return nil
}

// hosts are the runs that this process has open, or opens.
type hosts struct {
	mu      sync.Mutex
	open    map[string]*host     // by run id
	failed  map[string]hostError // why a run could not be opened
	opening map[string]bool
	closed  bool
}

// hostError is an attempt that failed.
type hostError struct {
	err   error
	at    time.Time
	tries int
}

// A run that could not be opened is tried again, for a disk may be mounted late: after two failure timeouts, twice as long
// each time, and at least this often.
const hostAtLeast = 5 * time.Minute

func newHosts() *hosts {
	return &hosts{open: map[string]*host{}, failed: map[string]hostError{}, opening: map[string]bool{}}
}

// get returns an open run, why the newest attempt failed, and whether one is under way.
func (h *hosts) get(run string) (open *host, failed error, opening bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open[run], h.failed[run].err, h.opening[run]
}

// put adds an open run. It reports whether it was taken; who is refused closes it.
func (h *hosts) put(run string, open *host) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.open[run] != nil {
		return false
	}
	h.open[run] = open
	delete(h.failed, run)
	return true
}

// begin reports whether the caller is to open a run now.
func (h *hosts) begin(run string, now time.Time, again time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.failed[run]
	if h.closed || h.open[run] != nil || h.opening[run] || f.tries > 0 && now.Sub(f.at) < min(again<<min(f.tries-1, 16), hostAtLeast) {
		return false
	}
	h.opening[run] = true
	return true
}

// end takes the result of an attempt.
func (h *hosts) end(run string, open *host, err error) (taken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.opening, run)
	if h.closed {
		return false
	}
	if err != nil {
		h.failed[run] = hostError{err, time.Now(), h.failed[run].tries + 1}
		return false
	}
	if h.open[run] != nil {
		return false
	}
	delete(h.failed, run)
	h.open[run] = open
	return true
}

// take removes an open run; nil = there is none.
func (h *hosts) take(run string) *host {
	h.mu.Lock()
	defer h.mu.Unlock()
	open := h.open[run]
	delete(h.open, run)
	delete(h.failed, run)
	return open
}

// closeHosts closes all that is open, and takes nothing more.
func (n *Node) closeHosts() {
	n.hosts.mu.Lock()
	n.hosts.closed = true
	open := n.hosts.open
	n.hosts.open = map[string]*host{}
	n.hosts.mu.Unlock()
	for _, h := range open {
		h.close(n.o.Log)
	}
}

// openRuns opens the working runs that are not open, beside whatever else this node does. One that follows does so too:
// it can lead them at once.
func (n *Node) openRuns() {
	if n.o.Host == nil {
		return
	}
	for _, run := range n.machine.State().Runs {
		if !run.State.Working() || run.File == nil || !n.hosts.begin(run.ID, time.Now(), 2*n.timers.Failure) {
			continue
		}
		n.o.Log.Info("preparing", "run", run.ID)
		n.background.Go(func() {
			open, err := n.openHost(run.File)
			if err == nil {
				err = open.check(run)
			}
			if taken := n.hosts.end(run.ID, open, err); open != nil && !taken {
				open.close(n.o.Log)
			}
			if n.closing.Err() != nil {
				return
			}
			n.raft.Unfit(n.hosts.unfit())
			n.post(func(l *leader) {
				if err != nil {
					l.handOver(run, err)
				}
			})
		})
	}
}

// unfit says which runs this process cannot lead, and why; "" = it can lead all.
func (h *hosts) unfit() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var why []string
	for id, f := range h.failed {
		why = append(why, fmt.Sprintf("run %s: %v", id, f.err))
	}
	slices.Sort(why)
	return strings.Join(why, "; ")
}

// handOver hands leadership on because a run cannot be led from here. Where nobody else can either, it stays.
func (l *leader) handOver(run *fsm.Run, why error) {
	l.o.Log.Error("a run cannot be led from here", "run", run.ID, "error", why)
	l.background.Go(func() {
		ctx, cancel := context.WithTimeout(l.closing, l.timers.Failure)
		defer cancel()
		if err := l.raft.Transfer(ctx); err != nil {
			l.o.Log.Warn("leadership stays here", "error", err)
		}
	})
}

// openHost opens a run from its file.
func (n *Node) openHost(file []byte) (*host, error) {
	h, err := n.o.Host(n.closing, file)
	if err != nil {
		return nil, err
	}
	return newHost(h), nil
}

// journalOf opens the events of a run.
func (l *leader) journalOf(h *host, id string) *journal {
	dir := h.Dir
	if dir == "" {
		dir = filepath.Join(l.o.Dir, "runs", id)
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		var j *journal
		if j, err = openJournal(filepath.Join(dir, "events.jsonl"), l.o.Events, l.o.Log); err == nil {
			j.heed = l.publishEvent
			return j
		}
	}
	l.o.Log.Warn("the run's report will lack what happens from now on", "run", id, "error", err)
	return &journal{tell: l.o.Events, heed: l.publishEvent, log: l.o.Log}
}
