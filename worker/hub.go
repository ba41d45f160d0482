package worker

import (
	"sync"

	"github.com/counterpoint-ml/counterpoint/worker/collective"
)

// Hub is where the agents of one process find each other: their values are read where they are, without a network.
type Hub struct {
	mu   sync.Mutex
	jobs map[[2]string]*job // by run and worker
}

// NewHub returns a Hub for the agents of a process.
func NewHub() *Hub { return &Hub{jobs: map[[2]string]*job{}} }

func (h *Hub) join(run, worker string, j *job) (leave func()) {
	if h == nil {
		return func() {}
	}
	k := [2]string{run, worker}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.jobs[k] = j
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.jobs, k)
	}
}

func (h *Hub) find(run, worker string) *job {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.jobs[[2]string{run, worker}]
}

// Near implements collective.Neighbours.
func (p *paths) Near(worker string) *collective.Group {
	if j := p.hub.find(p.run, worker); j != nil {
		return j.group
	}
	return nil
}

// Lent implements collective.Neighbours.
func (p *paths) Lent(worker string, bytes int) { p.note(worker, pathMemory, bytes) }
