package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

// Every steering command says where it looked when nobody answers, and what is wrong with what it was told.
func TestSteeringWithoutFleet(t *testing.T) {
	dead := "http://" + freeAddress(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"runs", "--server", dead}, "no coordinator answers at " + dead},
		{[]string{"status", "--server", "nats://127.0.0.1:4222"}, "this is where workers join"},
		{[]string{"workers", "--server", "ftp://x"}, "http://HOST:PORT"},
		{[]string{"pause"}, "RUN is missing"},
		{[]string{"status", "a", "b"}, `unexpected argument "b"`},
		{[]string{"priority", "r", "high", "--server", dead}, "a whole number is expected"},
		{[]string{"runs", "--server", "http://10.0.0.1:8300", "--token", "@" + file}, "not sent over plain HTTP"},
		{[]string{"runs", "--token", "@" + file + "x"}, "no such file"},
		{[]string{"runs", "--server", "https://127.0.0.1:1", "--tls", "a.pem,b.pem"}, "CERTIFICATE"},
		{[]string{"submit", file, "--server", dead}, "want `key: value` lines"},
	} {
		if code, out, errs := command(t, c.args...); code != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("%v: exit %d, %q, %q, want 1 and %q", c.args, code, out, errs, c.want)
		}
	}
}

// Tables fit the terminal: what may be cut is, the widest first, and columns of nothing are left out.
func TestTable(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	runs := []coordinator.RunSummary{
		{ID: "debian-diffusion-large-0a1b2c3d", Name: "debian-diffusion-large", State: "running", Step: 120, Steps: 100000, Loss: 0.43, Workers: 3, Submitted: at(3 * time.Hour)},
		{ID: "wiki-0a1b2c3d", Name: "wiki", State: "queued", Priority: -1, Steps: 50, Submitted: at(time.Minute), Reason: "waits for 2 workers with gpu=h200; 1 of them is free, and one is draining"},
	}
	for _, width := range []int{80, 140, 0} {
		var b strings.Builder
		tab := runTable(&b, runs)
		tab.width = width
		if err := tab.write(&b); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if n := len([]rune(line)); width > 0 && n > width {
				t.Errorf("%d columns, want at most %d: %s", n, width, line)
			}
		}
		wants(t, "the table", b.String(), "STATE", "120/100000", "0.4300", "queued", "3 h ago")
		if width == 0 {
			wants(t, "the whole table", b.String(), runs[0].ID)
		} else if !strings.Contains(b.String(), "…") && width == 80 {
			t.Errorf("nothing is cut at 80 columns:\n%s", b.String())
		}
		t.Logf("%d columns\n%s", width, b.String())
	}
}
