package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// syncLog is what the office's processes log.
type syncLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *syncLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// vault is an office behind certificates: workers join over TLS, with keys and tokens of their own.
type vault struct {
	*office
	ca    *credential.Authority
	log   *syncLog
	token credential.Secret
	key   *bus.Key
	files []string // of secrets
}

func newVault(t *testing.T, steps int64) *vault {
	t.Helper()
	ca, err := credential.NewAuthority(filepath.Join(t.TempDir(), "ca"), credential.AuthorityRequest{})
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{office: newOffice(t, steps), ca: ca, log: &syncLog{}}
	v.options.Log = slog.New(slog.NewTextHandler(v.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	v.options.Cluster.Listen = "127.0.0.1:0"
	files := v.issue(ca, credential.Coordinator, "a", time.Hour)
	v.options.Cluster.TLS = &files
	v.adapt = func(c *Config) { c.Log = v.options.Log }
	v.dial = func(o *bus.Options) {
		o.Server, o.URL, o.Token, o.Log = nil, v.node.URL(), v.token, v.options.Log
		if o.Key = v.key; o.Key == nil {
			o.Key = v.newKey()
		}
		o.TLS = v.source(credential.Worker, "w")
	}
	v.open()
	return v
}

func (v *vault) issue(ca *credential.Authority, role credential.Role, name string, valid time.Duration) credential.Config {
	v.t.Helper()
	i, err := ca.Issue(credential.Request{Member: credential.Member{Role: role, Name: name}, Hosts: []string{"127.0.0.1"}, Validity: valid})
	if err != nil {
		v.t.Fatal(err)
	}
	dir := v.t.TempDir()
	certificate, key, err := i.Write(dir, name, false)
	if err != nil {
		v.t.Fatal(err)
	}
	v.files = append(v.files, key)
	root := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(root, ca.PEM(), 0o600); err != nil {
		v.t.Fatal(err)
	}
	return credential.Config{CA: root, Certificate: certificate, Key: key}
}

func (v *vault) source(role credential.Role, name string) *credential.Source {
	v.t.Helper()
	s, err := credential.Open(v.issue(v.ca, role, name, time.Hour), nil, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return s
}

func (v *vault) newKey() *bus.Key {
	v.t.Helper()
	file := filepath.Join(v.t.TempDir(), "worker.nk")
	k, err := bus.LoadKey(file)
	if err != nil {
		v.t.Fatal(err)
	}
	v.files = append(v.files, file)
	return k
}

func (v *vault) issueToken(valid time.Duration, uses int) {
	v.t.Helper()
	var err error
	if v.token, _, err = v.ca.JoinToken(valid, uses); err != nil {
		v.t.Fatal(err)
	}
}

// turnedAway waits for the end of a worker that is refused.
func (v *vault) turnedAway(p *person, want string) {
	v.t.Helper()
	select {
	case err := <-p.done:
		p.done <- err
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			v.t.Errorf("Run = %v, want refused with %q", err, want)
		}
	case <-time.After(20 * time.Second):
		v.t.Fatalf("not refused; want %q", want)
	}
}

// status asks as an operator does.
func (v *vault) status() (text []byte, refused map[string]int64) {
	v.t.Helper()
	conn, err := bus.Connect(v.t.Context(), bus.Options{URL: v.node.URL(), TLS: v.source(credential.Viewer, "wall"), Name: "status", FailureTimeout: time.Second})
	if err != nil {
		v.t.Fatal(err)
	}
	defer conn.Close()
	reply, err := bus.Request[wire.StatusReply](v.t.Context(), conn, wire.StatusSubject, &wire.StatusRequest{})
	if err != nil {
		v.t.Fatal(err)
	}
	var s struct{ Refused map[string]int64 }
	if err := json.Unmarshal(reply.JSON, &s); err != nil {
		v.t.Fatal(err)
	}
	return reply.JSON, s.Refused
}

// A run over TLS, keys and a token of two uses gives the bits of any run. Who comes without a token, with one that has
// ended, with one that is used up, or with a stranger's, is refused in words that he can act on, and counted; and none of
// the secrets is in a log, in the status or in an error.
func TestFleetBehindCertificates(t *testing.T) {
	v := newVault(t, 20)
	v.pause = 20 * time.Millisecond // a shard: the run does not end before all have knocked
	v.turnedAway(v.hire("tokenless"), "a join token is needed once")

	v.issueToken(time.Second, 1)
	planted := []string{v.token.Reveal()}
	time.Sleep(1100 * time.Millisecond)
	v.turnedAway(v.hire("late"), "expired on ")

	stranger, err := credential.NewAuthority(filepath.Join(t.TempDir(), "strangers"), credential.AuthorityRequest{Name: "strangers"})
	if err != nil {
		t.Fatal(err)
	}
	if v.token, _, err = stranger.JoinToken(time.Hour, 9); err != nil {
		t.Fatal(err)
	}
	planted = append(planted, v.token.Reveal())
	v.turnedAway(v.hire("forger"), "not signed by this fleet's CA")

	v.issueToken(time.Hour, 2)
	planted = append(planted, v.token.Reveal())
	first := v.newKey()
	v.key = first
	a := v.hire("a")
	v.key = nil
	v.hire("b")
	for deadline := time.Now().Add(20 * time.Second); v.steps() < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no steps; log:\n%s", v.log)
		}
	}
	v.turnedAway(v.hire("third"), "used 2 of 2 times")

	// An admitted key comes back without its token.
	v.fire(a)
	a.done <- nil // its end was seen
	v.key, v.token = first, credential.Secret{}
	v.hire("a")
	text, refused := v.status()
	for reason, want := range map[credential.Reason]int64{
		credential.NotAdmitted: 1, credential.TokenExpired: 1, credential.BadToken: 1, credential.TokenReplayed: 1,
	} {
		if got := refused[string(reason)]; got != want {
			t.Errorf("refused for %q %d times, want %d: %v", reason, got, want, refused)
		}
		if !strings.Contains(v.log.String(), `reason="`+string(reason)+`"`) {
			t.Errorf("%q is not in the log", reason)
		}
	}
	v.check()
	if n := len(v.node.State().Admissions); n != 2 {
		t.Errorf("%d keys are admitted, want 2", n)
	}

	for _, file := range v.files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(text), "\n") {
			if !strings.HasPrefix(line, "-----") && len(line) > 20 {
				planted = append(planted, line)
			}
		}
	}
	shown := v.log.String() + string(text) + fmt.Sprintf("%+v %#v", v.options.Cluster, v.node.State().Admissions)
	for _, secret := range planted {
		if strings.Contains(shown, secret) || strings.Contains(shown, secret[4:24]) {
			t.Errorf("a secret shows: %.12s...", secret)
		}
	}
	if len(planted) < 8 {
		t.Errorf("%d secrets planted, want more", len(planted))
	}
	t.Logf("%d secrets are not in %d bytes of logs and status", len(planted), len(shown))
}
