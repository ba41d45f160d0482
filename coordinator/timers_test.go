package coordinator_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

func TestExplainTimers(t *testing.T) {
	for _, failure := range []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Minute} {
		var out bytes.Buffer
		if err := coordinator.ExplainTimers(&out, failure); err != nil {
			t.Fatalf("ExplainTimers(%v) = %v", failure, err)
		}
		for _, want := range []string{"failure_timeout", "raft lease", "worker beat", "bus ping", "leader's log write", "coordinator dead"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("ExplainTimers(%v) has no %q", failure, want)
			}
		}
	}
	if err := coordinator.ExplainTimers(&bytes.Buffer{}, time.Millisecond); err == nil {
		t.Error("ExplainTimers(1ms) = nil, want an error")
	}
}
