// Package heap keeps the garbage collector from doubling a process that holds few, large arrays without pointers.
//
// Go lets garbage grow to the size of what is alive. A model's weights, moments and activations are alive for the whole
// run, gigabytes of them, and cost the collector nothing: so the next collection may as well come soon.
package heap

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Room is how much garbage may gather between two collections, in bytes, where more than that is alive. Marking costs
// about a millisecond a collection, since what is large has no pointers.
const Room = 16 << 20

// least is the lowest percentage, for heaps of more than Room * 100 / least: collections have a fixed cost.
const least = 4

// tied is what makes the collector call back: nothing refers to it.
type tied struct{ _ [16]byte }

var once sync.Once

// Tune begins to follow the heap: after every collection the next one is set to come when Room, or 1/25 of what is
// alive, has been allocated. It does nothing where GOGC is set. It may be called often.
func Tune() {
	if os.Getenv("GOGC") != "" {
		return
	}
	once.Do(arm)
}

func arm() {
	runtime.SetFinalizer(&tied{}, func(*tied) {
		adjust()
		arm()
	})
}

func adjust() {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	if p := percent(sample[0].Value.Uint64()); uint64(p) != sample[1].Value.Uint64() {
		debug.SetGCPercent(p)
	}
}

// Garbage is how much garbage gathers over so many bytes alive.
func Garbage(alive int64) int64 { return alive * int64(percent(uint64(max(alive, 1)))) / 100 }

// percent is the GOGC under which a heap of which so many bytes are alive may grow by Room.
func percent(alive uint64) int {
	if alive < Room {
		return 100
	}
	return max(least, int(100*Room/alive))
}
