package coordinator

import (
	"sync"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// keptLines is how many log lines of the fleet a coordinator remembers.
const keptLines = 2000

// lines are the newest log lines of the fleet.
type lines struct {
	mu   sync.Mutex
	ring []wire.Log
	next int
}

func (l *lines) add(line *wire.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < keptLines {
		l.ring = append(l.ring, *line)
		return
	}
	l.ring[l.next] = *line
	l.next = (l.next + 1) % keptLines
}

// newest returns the last n lines, oldest first; all if n is 0.
func (l *lines) newest(n int) []wire.Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := append(append([]wire.Log(nil), l.ring[l.next:]...), l.ring[:l.next]...)
	if n > 0 && n < len(all) {
		all = all[len(all)-n:]
	}
	return all
}
