package bus_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
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

// buffer is a log that several goroutines write to.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// directory is what the log says of keys, as the tests want it.
type directory struct {
	mu  sync.Mutex
	all map[string][]wire.Grant
}

func (d *directory) Grants(key string) ([]wire.Grant, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g, ok := d.all[key]
	return g, ok
}

func (d *directory) set(key string, grants ...wire.Grant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all[key] = grants
}

// fleet is a server that asks for certificates.
type fleet struct {
	*testing.T
	ca        *credential.Authority
	server    *bus.Server
	refusals  *credential.Refusals
	directory *directory
	log       *buffer
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	ca, err := credential.NewAuthority(filepath.Join(t.TempDir(), "ca"), credential.AuthorityRequest{})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{T: t, ca: ca, directory: &directory{all: map[string][]wire.Grant{}}, log: &buffer{}}
	log := slog.New(slog.NewTextHandler(f.log, nil))
	f.refusals = &credential.Refusals{Log: log}
	f.server, err = bus.StartServer(bus.ServerOptions{
		Listen: "127.0.0.1:0", FailureTimeout: 100 * time.Millisecond, Log: log,
		TLS: f.source(credential.Coordinator, "a", f.refusals), Directory: f.directory, Refusals: f.refusals,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.server.Close)
	return f
}

func (f *fleet) files(ca *credential.Authority, role credential.Role, name string, valid time.Duration) credential.Config {
	f.Helper()
	i, err := ca.Issue(credential.Request{Member: credential.Member{Role: role, Name: name}, Hosts: []string{"127.0.0.1"}, Validity: valid})
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	certificate, key, err := i.Write(dir, name, false)
	if err != nil {
		f.Fatal(err)
	}
	return credential.Config{CA: f.trust(dir, ca), Certificate: certificate, Key: key}
}

func (f *fleet) trust(dir string, ca *credential.Authority) string {
	f.Helper()
	name := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(name, ca.PEM(), 0o644); err != nil {
		f.Fatal(err)
	}
	return name
}

func (f *fleet) source(role credential.Role, name string, r *credential.Refusals) *credential.Source {
	f.Helper()
	s, err := credential.Open(f.files(f.ca, role, name, time.Hour), r, nil)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

func (f *fleet) connect(o bus.Options) (*bus.Conn, error) {
	o.FailureTimeout = time.Second
	if o.Server == nil {
		o.URL = f.server.URL()
	}
	c, err := bus.Connect(f.Context(), o)
	if err == nil {
		f.Cleanup(c.Close)
	}
	return c, err
}

func (f *fleet) address() string { return strings.TrimPrefix(f.server.URL(), "tls://") }

func (f *fleet) worker(key *bus.Key) *bus.Conn {
	f.Helper()
	c, err := f.connect(bus.Options{TLS: f.source(credential.Worker, "w", nil), Key: key, Name: key.Public()[:8]})
	if err != nil {
		f.Fatal(err)
	}
	return c
}

func (f *fleet) counted(reason credential.Reason) int64 { return f.refusals.Counts()[string(reason)] }

func (f *fleet) await(reason credential.Reason, n int64) {
	f.Helper()
	for deadline := time.Now().Add(10 * time.Second); f.counted(reason) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatalf("refused %v, want %q %d times; log:\n%s", f.refusals.Counts(), reason, n, f.log)
		}
	}
}

func newKey(t *testing.T) *bus.Key {
	t.Helper()
	k, err := bus.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// reaches reports whether a message on a subject reaches the coordinator, as is expected; what is expected not to is
// waited for less long.
func (f *fleet) reaches(c *bus.Conn, subject string, expected bool) bool {
	f.Helper()
	wait := 50 * time.Millisecond
	if expected {
		wait = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(f.Context(), wait)
	defer cancel()
	_, err := bus.Request[wire.Verdict](ctx, c, subject, &wire.Leave{Worker: "w"})
	return err == nil
}

// answer lets the coordinator answer on subjects.
func (f *fleet) answer(subjects ...string) *bus.Conn {
	f.Helper()
	c, err := f.connect(bus.Options{Server: f.server, Name: "coordinator"})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range subjects {
		if _, err := bus.Serve(c, s, "coordinators", func(_ *wire.Leave, reply func(*wire.Verdict)) { reply(&wire.Verdict{Accepted: true}) }); err != nil {
			f.Fatal(err)
		}
	}
	if err := c.Flush(f.Context()); err != nil {
		f.Fatal(err)
	}
	return c
}

// What a worker may do follows from the log: nothing but hello, then beats, then its run; and another run no more.
func TestPermissionsFollowTheAssignment(t *testing.T) {
	f := newFleet(t)
	f.answer(wire.HelloSubject, wire.BeatSubject, wire.LeaveSubject, wire.ControlSubject, wire.ReportSubject("r1"), wire.ReportSubject("r2"))
	key := newKey(t)
	c := f.worker(key)
	expect := func(when string, may ...string) {
		t.Helper()
		for _, s := range []string{wire.HelloSubject, wire.BeatSubject, wire.ControlSubject, wire.ReportSubject("r1"), wire.ReportSubject("r2")} {
			want := false
			for _, m := range may {
				want = want || m == s
			}
			if got := f.reaches(c, s, want); got != want {
				t.Errorf("%s: a message on %s arrives: %v, want %v", when, s, got, want)
			}
		}
	}
	expect("not admitted", wire.HelloSubject)
	f.directory.set(key.Public())
	f.server.Refresh()
	expect("admitted", wire.HelloSubject, wire.BeatSubject)
	f.directory.set(key.Public(), wire.Grant{Worker: "w-1", Run: "r1"})
	f.server.Refresh()
	expect("in run r1", wire.HelloSubject, wire.BeatSubject, wire.ReportSubject("r1"))
	before := f.counted(credential.NotPermitted)
	if f.reaches(c, wire.ReportSubject("r2"), false) {
		t.Error("a worker of r1 reports to r2")
	}
	f.await(credential.NotPermitted, before+1)
	if !strings.Contains(f.log.String(), "Publish Violation") {
		t.Errorf("the log does not name the violation:\n%s", f.log)
	}
	f.directory.set(key.Public(), wire.Grant{Worker: "w-1", Run: "r2"})
	f.server.Refresh()
	if !f.reaches(c, wire.ReportSubject("r2"), true) {
		t.Error("the new run is not open at once")
	}
	time.Sleep(300 * time.Millisecond) // the grace of the old one: two failure timeouts
	expect("in run r2", wire.HelloSubject, wire.BeatSubject, wire.ReportSubject("r2"))
	if !c.Connected() {
		t.Error("the connection was lost on the way")
	}
}

// A worker sees what is sent to it and to its run, and not what is sent to others: neither their subjects nor the
// answers that they get.
func TestWorkersDoNotReadEachOther(t *testing.T) {
	f := newFleet(t)
	a, b := newKey(t), newKey(t)
	f.directory.set(a.Public(), wire.Grant{Worker: "a", Run: "r"})
	f.directory.set(b.Public(), wire.Grant{Worker: "b", Run: "r"})
	ca, cb := f.worker(a), f.worker(b)
	var stolen sync.Map
	listen := func(c *bus.Conn, subject string) chan struct{} {
		got := make(chan struct{}, 1)
		if _, err := bus.Subscribe(c, subject, func(*wire.Leave) { got <- struct{}{} }); err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, s := range []string{wire.ChunkSubject("r", "a"), wire.ReportSubject("r"), wire.RoundSubject("other"), "_INBOX." + a.Public() + ".>", ">", wire.BeatSubject} {
		got := listen(cb, s)
		go func() {
			select {
			case <-got:
				stolen.Store(s, true)
			case <-t.Context().Done():
			}
		}()
	}
	mine := listen(cb, wire.RowsReplySubject("r", "b"))
	rounds := listen(cb, wire.RoundSubject("r"))
	boss := f.answer(wire.BeatSubject, wire.ReportSubject("r"))
	// Who is asked may answer: a asks b.
	if _, err := bus.Serve(cb, wire.ChunkSubject("r", "b"), "", func(_ *wire.Leave, reply func(*wire.Verdict)) { reply(&wire.Verdict{Accepted: true}) }); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(ca.Flush(t.Context()), cb.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{wire.BeatSubject, wire.ReportSubject("r"), wire.ChunkSubject("r", "b")} {
		if !f.reaches(ca, s, true) {
			t.Errorf("no answer on %s", s)
		}
	}
	for _, s := range []string{wire.RoundSubject("r"), wire.RoundSubject("other"), wire.ChunkSubject("r", "a")} {
		if err := boss.Publish(s, &wire.Leave{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ca.Publish(wire.RowsReplySubject("r", "b"), &wire.Leave{}); err != nil {
		t.Fatal(err)
	}
	<-mine
	<-rounds
	// Only the leader publishes rounds.
	before := f.counted(credential.NotPermitted)
	if err := errors.Join(ca.Publish(wire.RoundSubject("r"), &wire.Leave{}), ca.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	f.await(credential.NotPermitted, before+1)
	select {
	case <-rounds:
		t.Error("a worker published a round")
	case <-time.After(50 * time.Millisecond):
	}
	stolen.Range(func(s, _ any) bool {
		t.Errorf("a worker read %v, which is not for it", s)
		return true
	})
}

// A run that is told a moment before the server knows of it: the subscription is made again until it is permitted.
func TestSubscriptionAheadOfItsGrant(t *testing.T) {
	f := newFleet(t)
	key := newKey(t)
	f.directory.set(key.Public())
	c := f.worker(key)
	got := make(chan struct{}, 16)
	if _, err := bus.Subscribe(c, wire.RoundSubject("r"), func(*wire.Leave) { got <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	f.await(credential.NotPermitted, 1)
	f.directory.set(key.Public(), wire.Grant{Worker: "w", Run: "r"})
	f.server.Refresh()
	boss := f.answer()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err := boss.Publish(wire.RoundSubject("r"), &wire.Leave{}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-got:
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the subscription never came to be")
		}
	}
}

// A worker that stays subscribed to a run that it was taken from is cut off.
func TestStaysInARun(t *testing.T) {
	f := newFleet(t)
	key := newKey(t)
	f.directory.set(key.Public(), wire.Grant{Worker: "w", Run: "r"})
	c := f.worker(key)
	if _, err := bus.Subscribe(c, wire.RoundSubject("r"), func(*wire.Leave) {}); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.directory.set(key.Public(), wire.Grant{Worker: "w"})
	f.server.Refresh()
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(f.log.String(), "stays subscribed"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still subscribed; log:\n%s", f.log)
		}
	}
}

// The roles of the command line: a viewer sees, an operator steers.
func TestRoles(t *testing.T) {
	f := newFleet(t)
	f.answer(wire.StatusSubject, wire.ControlSubject, wire.SubmitSubject, wire.HelloSubject, wire.ReportSubject("r"))
	for role, may := range map[credential.Role][]string{
		credential.Viewer:      {wire.StatusSubject},
		credential.Operator:    {wire.StatusSubject, wire.ControlSubject, wire.SubmitSubject},
		credential.Coordinator: {wire.StatusSubject, wire.ControlSubject, wire.SubmitSubject, wire.HelloSubject, wire.ReportSubject("r")},
	} {
		c, err := f.connect(bus.Options{TLS: f.source(role, "x.y", nil), Name: string(role)})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{wire.StatusSubject, wire.ControlSubject, wire.SubmitSubject, wire.HelloSubject, wire.ReportSubject("r")} {
			want := strings.Contains(strings.Join(may, " ")+" ", s+" ")
			if got := f.reaches(c, s, want); got != want {
				t.Errorf("%s: a message on %s arrives: %v, want %v", role, s, got, want)
			}
		}
	}
}

// Who has no good certificate, or not the key that it names, does not come in, and is counted by reason.
func TestStrangersAreRefused(t *testing.T) {
	f := newFleet(t)
	strangers, err := credential.NewAuthority(filepath.Join(t.TempDir(), "strangers"), credential.AuthorityRequest{Name: "strangers"})
	if err != nil {
		t.Fatal(err)
	}
	raw := func(certificate *credential.Config) (*tls.Conn, error) {
		c := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
		if certificate != nil {
			pair, err := tls.LoadX509KeyPair(certificate.Certificate, certificate.Key)
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = []tls.Certificate{pair}
		}
		conn, err := tls.Dial("tcp", f.address(), c)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			t.Cleanup(func() { conn.Close() })
		}
		return conn, err
	}
	shut := func(c *tls.Conn, err error) {
		t.Helper()
		if err != nil {
			return
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			t.Error("the server greets")
		}
	}
	c, err := raw(nil)
	shut(c, err)
	f.await(credential.NoCertificate, 1)

	strange := f.files(strangers, credential.Worker, "w", time.Hour)
	c, err = raw(&strange)
	shut(c, err)
	f.await(credential.UnknownCA, 1)

	old := f.files(f.ca, credential.Worker, "old", time.Second)
	time.Sleep(1100 * time.Millisecond)
	c, err = raw(&old)
	shut(c, err)
	f.await(credential.Expired, 1)
	if !strings.Contains(f.log.String(), "expired on ") {
		t.Errorf("the log does not name the end:\n%s", f.log)
	}

	// A worker's certificate without a key, and with a key of somebody else.
	if _, err := f.connect(bus.Options{TLS: f.source(credential.Worker, "w", nil), Name: "keyless"}); !errors.Is(err, bus.ErrRefused) {
		t.Errorf("Connect without a key = %v, want ErrRefused", err)
	}
	f.await(credential.BadSignature, 1)
	fine := f.files(f.ca, credential.Worker, "w", time.Hour)
	c, err = raw(&fine)
	if err != nil {
		t.Fatal(err)
	}
	victim := newKey(t)
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "CONNECT {\"verbose\":false,\"nkey\":%q,\"sig\":%q}\r\nPING\r\n", victim.Public(), strings.Repeat("A", 86))
	if line, _ := r.ReadString('\n'); !strings.Contains(line, "Authorization Violation") {
		t.Errorf("another's key is answered by %q", line)
	}
	f.await(credential.BadSignature, 2)

	// A client without TLS, and one that says nothing.
	plain, err := net.Dial("tcp", f.address())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	fmt.Fprintf(plain, "CONNECT {}\r\nPING\r\n")
	_ = plain.SetReadDeadline(time.Now().Add(10 * time.Second))
	if b, _ := io.ReadAll(plain); strings.Contains(string(b), "PONG") {
		t.Errorf("a plain client is answered by %q", b)
	}
	f.await(credential.NoTLS, 1)
	for range 300 {
		raw, err := net.Dial("tcp", f.address())
		if err != nil {
			t.Fatal(err)
		}
		// The beginning of a ClientHello of TLS 1.3, as the library makes it, is the cheapest that counts.
		_ = tls.Client(&firstWrite{Conn: raw}, &tls.Config{InsecureSkipVerify: true}).Handshake()
		raw.Close()
	}
	f.await(credential.TooManyAddress, 1)
}

// firstWrite lets one write through and then ends.
type firstWrite struct {
	net.Conn
}

func (c *firstWrite) Read([]byte) (int, error) { return 0, io.EOF }

// A frame that is too large, and bytes that are none, end the connection; their content is not in the log.
func TestFramesAreBounded(t *testing.T) {
	f := newFleet(t)
	files := f.files(f.ca, credential.Operator, "o", time.Hour)
	pair, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	dial := func() (*tls.Conn, *bufio.Reader) {
		c, err := tls.Dial("tcp", f.address(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		r := bufio.NewReader(c)
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "CONNECT {\"verbose\":false}\r\nPING\r\n")
		for line := ""; !strings.HasPrefix(line, "PONG"); {
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		return c, r
	}
	const planted = "planted-5ac1"
	for _, c := range []struct {
		what, send string
		reason     credential.Reason
		n          int64
	}{
		{"a payload", fmt.Sprintf("PUB %s %d\r\n", wire.StatusSubject, wire.MaxMessage+1), credential.Oversized, 1},
		{"a line", "PUB " + planted + strings.Repeat("x", 8192), credential.Oversized, 2},
		{"noise", "\x00\xff" + planted + "\r\n", credential.Malformed, 1},
	} {
		conn, r := dial()
		if _, err := io.WriteString(conn, c.send); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", c.what)
		}
		f.await(c.reason, c.n)
	}
	if strings.Contains(f.log.String(), planted) {
		t.Errorf("what was sent shows in the log:\n%s", f.log)
	}
}

func TestSilenceBeforeAuthentication(t *testing.T) {
	if testing.Short() {
		t.Skip("waits 2 s for the server's bound")
	}
	t.Parallel()
	f := newFleet(t)
	c, err := net.Dial("tcp", f.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection that says nothing stays open")
	}
	f.await(credential.HandshakeSlow, 1)
}

func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cache", "worker.nk")
	a, err := bus.LoadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.LoadKey(file)
	if err != nil || a.Public() != b.Public() {
		t.Errorf("read again: %v, %v, want %v", b.Public(), err, a.Public())
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	seed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", a, a, *a, a); strings.Contains(s, strings.TrimSpace(string(seed))) {
		t.Error("the seed prints")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.LoadKey(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("LoadKey of a file that others read = %v", err)
	}
	if err := os.WriteFile(file, append([]byte("x"), seed...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.LoadKey(file); err == nil || strings.Contains(err.Error(), string(seed[:8])) {
		t.Errorf("LoadKey of a damaged file = %v, want an error without the seed", err)
	}
}

func TestHelloIsSigned(t *testing.T) {
	f := newFleet(t)
	key := newKey(t)
	c := f.worker(key)
	m := &wire.Hello{Worker: "w", Name: "n", Connection: "c", Address: "a:1"}
	if err := c.Introduce(m); err != nil {
		t.Fatal(err)
	}
	if err := bus.CheckHello(m); err != nil {
		t.Errorf("CheckHello = %v", err)
	}
	for name, change := range map[string]func(*wire.Hello){
		"worker":    func(m *wire.Hello) { m.Worker = "v" },
		"address":   func(m *wire.Hello) { m.Address = "b:1" },
		"key":       func(m *wire.Hello) { m.Key = newKey(t).Public() },
		"no key":    func(m *wire.Hello) { m.Key = "" },
		"signature": func(m *wire.Hello) { m.Signature = nil },
		"boundary":  func(m *wire.Hello) { m.Worker, m.Name = `w" "n`, "" },
	} {
		changed := *m
		change(&changed)
		var refused *credential.RefusedError
		if err := bus.CheckHello(&changed); !errors.As(err, &refused) || refused.Reason != credential.BadSignature {
			t.Errorf("%s: CheckHello = %v, want a bad signature", name, err)
		}
	}
}

// A connection whose server has gone is closed while it tries to come back, and nothing breaks.
func TestClosedWhileTheServerIsGone(t *testing.T) {
	f := newFleet(t)
	c := f.worker(newKey(t))
	f.server.Close()
	time.Sleep(500 * time.Millisecond) // some tries are refused meanwhile
	c.Close()
}
