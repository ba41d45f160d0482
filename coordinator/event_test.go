package coordinator

import (
	"testing"
	"time"
)

func TestRecoveryInWords(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(1_000_000 + ms)) }
	for _, c := range []struct {
		recovery Recovery
		want     string
	}{
		{
			Recovery{Heard: at(0), Detected: at(200), Released: at(203), Commit: at(250), Shards: 2},
			"detected after 200ms, 2 shards leased again 3ms later, committed after another 47ms",
		},
		{Recovery{Heard: at(0), Detected: at(200), Commit: at(250)}, "detected after 200ms, no shards leased again, committed after another 50ms"},
	} {
		e := Event{Kind: Recovered, Recovery: &c.recovery}
		if got := e.Detail(); got != c.want {
			t.Errorf("Detail of %+v = %q, want %q", c.recovery, got, c.want)
		}
	}
}
