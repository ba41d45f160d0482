package heap

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		alive uint64
		want  int
	}{{0, 100}, {Room - 1, 100}, {Room, 100}, {2 * Room, 50}, {10 * Room, 10}, {100 * Room, least}, {1 << 40, least}} {
		if got := percent(c.alive); got != c.want {
			t.Errorf("percent(%d) = %d, want %d", c.alive, got, c.want)
		}
	}
}

// The collector's percentage follows what is alive, up and down.
func TestTune(t *testing.T) {
	t.Setenv("GOGC", "")
	Tune()
	Tune()
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	wait := func(want string, reached func(percent uint64) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			runtime.GC()
			if metrics.Read(sample); reached(sample[0].Value.Uint64()) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("GOGC is %d, want %s", sample[0].Value.Uint64(), want)
			}
		}
	}
	alive := make([]byte, 10*Room)
	wait("at most 10 with 10 Room alive", func(percent uint64) bool { return percent <= 10 })
	runtime.KeepAlive(alive)
	wait("100 with nothing alive", func(percent uint64) bool { return percent == 100 })
}
