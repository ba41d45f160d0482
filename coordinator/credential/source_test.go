package credential

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority makes a CA in a fresh folder.
func authority(t testing.TB, name string) *Authority {
	t.Helper()
	a, err := NewAuthority(filepath.Join(t.TempDir(), name), AuthorityRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// member issues a certificate and returns its files.
func member(t testing.TB, a *Authority, q Request) Config {
	t.Helper()
	i, err := a.Issue(q)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key, err := i.Write(dir, q.Name, false)
	if err != nil {
		t.Fatal(err)
	}
	return Config{CA: trust(t, dir, a), Certificate: certificate, Key: key}
}

func trust(t testing.TB, dir string, all ...*Authority) string {
	t.Helper()
	var text []byte
	for _, a := range all {
		text = append(text, a.PEM()...)
	}
	name := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func open(t testing.TB, c Config, r *Refusals) *Source {
	t.Helper()
	s, err := Open(c, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// echo serves a listener: every connection gets back what it sends.
func echo(t testing.TB, l net.Listener) {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

func listen(t testing.TB, config *tls.Config, limits Limits, r *Refusals) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener(inner, config, limits, r)
	echo(t, l)
	return l
}

// talk sends a word and reads it back: in TLS 1.3 a client learns only by reading that it was refused.
func talk(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("word")); err != nil {
		return err
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != "word" {
		return errors.New("another word came back")
	}
	return nil
}

// await waits until a reason has been counted n times.
func await(t testing.TB, r *Refusals, reason Reason, n int64) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); r.Counts()[string(reason)] != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("refused %v, want %q %d times", r.Counts(), reason, n)
		}
	}
}

// Each who should not come in is refused, counted under its reason and named in the log; the one who may comes in.
func TestRefusedByReason(t *testing.T) {
	ours, strangers := authority(t, "ours"), authority(t, "strangers")
	at := func(role Role, name string, hosts ...string) Request {
		return Request{Member: Member{role, name}, Hosts: hosts}
	}
	server := member(t, ours, at(Coordinator, "a", "127.0.0.1"))
	expired := at(Worker, "old")
	expired.notBefore, expired.Validity = time.Now().Add(-48*time.Hour), 24*time.Hour
	early := at(Worker, "early")
	early.notBefore, early.Validity = time.Now().Add(24*time.Hour), 24*time.Hour

	for name, c := range map[string]struct {
		client *Config // nil = no certificate
		reason Reason
		said   string
	}{
		"a worker":        {client: ptr(member(t, ours, at(Worker, "w")))},
		"no certificate":  {reason: NoCertificate, said: "no certificate was shown"},
		"a stranger":      {client: ptr(member(t, strangers, at(Worker, "w"))), reason: UnknownCA, said: `signed by \"strangers CA\", which is not in`},
		"expired":         {client: ptr(member(t, ours, expired)), reason: Expired, said: "expired on " + time.Now().Add(-24*time.Hour).UTC().Format("2006-01-02")},
		"not yet valid":   {client: ptr(member(t, ours, early)), reason: NotYetValid, said: "is not valid before"},
		"of another role": {client: ptr(member(t, ours, at(Viewer, "v"))), reason: WrongRole, said: "role viewer; coordinator or worker is needed here"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			r := &Refusals{Log: slog.New(slog.NewTextHandler(&log, nil))}
			l := listen(t, open(t, server, r).ServerConfig(Coordinator, Worker), Limits{}, r)
			config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
			if c.client != nil {
				chain, err := tls.LoadX509KeyPair(c.client.Certificate, c.client.Key)
				if err != nil {
					t.Fatal(err)
				}
				config.Certificates = []tls.Certificate{chain}
			}
			conn, err := tls.Dial("tcp", l.Addr().String(), config)
			if err == nil {
				err = talk(conn)
				conn.Close()
			}
			if c.reason == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				if n := r.Counts(); len(n) != 0 {
					t.Errorf("refused %v, want none", n)
				}
				return
			}
			if err == nil {
				t.Fatal("let in")
			}
			await(t, r, c.reason, 1)
			l.Close() // its goroutines are done: the log is whole
			if !strings.Contains(log.String(), c.said) || !strings.Contains(log.String(), "127.0.0.1:") {
				t.Errorf("log %q, want %q and the address", log.String(), c.said)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// A client refuses a server of the wrong role, of another name, of a strange CA.
func TestClientRefuses(t *testing.T) {
	ours, strangers := authority(t, "ours"), authority(t, "strangers")
	r := &Refusals{}
	client := open(t, member(t, ours, Request{Member: Member{Worker, "w"}}), r)
	for name, c := range map[string]struct {
		by     *Authority
		member Request
		reason Reason
	}{
		"right":       {by: ours, member: Request{Member: Member{Coordinator, "a"}, Hosts: []string{"127.0.0.1"}}},
		"a worker":    {by: ours, member: Request{Member: Member{Worker, "w2"}, Hosts: []string{"127.0.0.1"}}, reason: WrongRole},
		"elsewhere":   {by: ours, member: Request{Member: Member{Coordinator, "a"}, Hosts: []string{"10.0.0.1", "a.example"}}, reason: WrongName},
		"a stranger":  {by: strangers, member: Request{Member: Member{Coordinator, "a"}, Hosts: []string{"127.0.0.1"}}, reason: UnknownCA},
		"an operator": {by: ours, member: Request{Member: Member{Operator, "o"}, Hosts: []string{"127.0.0.1"}}, reason: BadCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, open(t, member(t, c.by, c.member), nil).ServerConfig(), Limits{}, nil)
			before := r.Counts()[string(c.reason)]
			conn, err := client.Dial(t.Context(), l.Addr().String(), Coordinator)
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := talk(conn); err != nil {
					t.Fatal(err)
				}
				if m, err := PeerOf(conn.ConnectionState()); err != nil || m != c.member.Member {
					t.Errorf("PeerOf = %v, %v, want %v", m, err, c.member.Member)
				}
				return
			}
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Reason != c.reason {
				t.Fatalf("Dial = %v, want refused for %q", err, c.reason)
			}
			if got := r.Counts()[string(c.reason)]; got != before+1 {
				t.Errorf("counted %d times, want %d", got, before+1)
			}
		})
	}
}

// Certificates are rotated under open connections: those live on, new ones use the new certificate, a half-replaced
// pair changes nothing, and a new CA is taken in beside the old one.
func TestRotation(t *testing.T) {
	old, next := authority(t, "old"), authority(t, "next")
	q := Request{Member: Member{Coordinator, "a"}, Hosts: []string{"127.0.0.1"}}
	files := member(t, old, q)
	clientFiles := member(t, old, Request{Member: Member{Worker, "w"}})
	now := time.Now()
	clock := func() time.Time { return now }
	server, client := open(t, files, nil), open(t, clientFiles, nil)
	server.now, client.now = clock, clock
	l := listen(t, server.ServerConfig(Worker), Limits{}, nil)
	dial := func() *tls.Conn {
		t.Helper()
		now = now.Add(2 * checkEvery) // both ends look at their files again
		c, err := client.Dial(t.Context(), l.Addr().String(), Coordinator)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := talk(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	serial := func(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].SerialNumber.String() }
	first := dial()
	if _, err := old.Renew(files.Certificate, files.Key, 0, Ed25519); err != nil {
		t.Fatal(err)
	}
	second := dial()
	if serial(first) == serial(second) {
		t.Error("after renewal the old certificate is shown")
	}
	if err := talk(first); err != nil {
		t.Errorf("the connection of before renewal: %v", err)
	}

	// Half of a rotation: the key is another's.
	good, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	_, strange, err := newKey(P256)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files.Key, strange, 0o600); err != nil {
		t.Fatal(err)
	}
	if third := dial(); serial(third) != serial(second) {
		t.Error("with half a rotation another certificate is shown than the last good one")
	}
	if err := os.WriteFile(files.Key, good, 0o600); err != nil {
		t.Fatal(err)
	}

	// A new CA: first trusted by both, then the server's certificate is signed by it.
	trust(t, filepath.Dir(files.CA), old, next)
	trust(t, filepath.Dir(clientFiles.CA), old, next)
	dial()
	i, err := next.Issue(q)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.replace(files.Certificate, files.Key, true); err != nil {
		t.Fatal(err)
	}
	if c := dial(); c.ConnectionState().PeerCertificates[0].Issuer.CommonName != "next CA" {
		t.Errorf("issuer %q, want next CA", c.ConnectionState().PeerCertificates[0].Issuer.CommonName)
	}
	if err := errors.Join(talk(first), talk(second)); err != nil {
		t.Errorf("connections of before: %v", err)
	}
}

// What a client speaks that is no TLS 1.3, or too much, or nothing, is refused and holds up nobody.
func TestListenerLimits(t *testing.T) {
	ours := authority(t, "ours")
	server := member(t, ours, Request{Member: Member{Coordinator, "a"}, Hosts: []string{"127.0.0.1"}})
	good := open(t, member(t, ours, Request{Member: Member{Worker, "w"}}), nil)
	start := func(t *testing.T, limits Limits) (*Listener, *Refusals) {
		r := &Refusals{}
		return listen(t, open(t, server, r).ServerConfig(), limits, r), r
	}
	raw := func(t *testing.T, l *Listener) net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	closed := func(t *testing.T, c net.Conn) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
	}
	t.Run("plain text", func(t *testing.T) {
		l, r := start(t, Limits{})
		c := raw(t, l)
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		closed(t, c)
		await(t, r, NoTLS, 1)
	})
	t.Run("TLS 1.2", func(t *testing.T) {
		l, r := start(t, Limits{})
		if c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
			c.Close()
			t.Fatal("let in")
		}
		await(t, r, NoTLS, 1)
	})
	t.Run("silence", func(t *testing.T) {
		l, r := start(t, Limits{Handshake: 50 * time.Millisecond})
		closed(t, raw(t, l))
		await(t, r, HandshakeSlow, 1)
	})
	t.Run("bytes", func(t *testing.T) {
		l, r := start(t, Limits{Bytes: 100})
		c := raw(t, l)
		// A handshake record of 16 KiB that begins like a ClientHello of as many bytes.
		if _, err := c.Write(append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc}, make([]byte, 16379)...)); err != nil {
			t.Fatal(err)
		}
		closed(t, c)
		await(t, r, TooManyBytes, 1)
	})
	t.Run("one address", func(t *testing.T) {
		l, r := start(t, Limits{PerAddress: 2})
		a, b := raw(t, l), raw(t, l)
		for l.Open() < 2 {
			time.Sleep(time.Millisecond)
		}
		closed(t, raw(t, l))
		await(t, r, TooManyAddress, 1)
		a.Close()
		b.Close()
		for deadline := time.Now().Add(5 * time.Second); l.Open() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d connections still count", l.Open())
			}
		}
		c, err := good.Dial(t.Context(), l.Addr().String(), Coordinator)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := talk(c); err != nil {
			t.Error(err)
		}
	})
	t.Run("pending", func(t *testing.T) {
		l, r := start(t, Limits{Pending: 1})
		raw(t, l)
		for l.Open() < 1 {
			time.Sleep(time.Millisecond)
		}
		closed(t, raw(t, l))
		await(t, r, TooMany, 1)
	})
	t.Run("total", func(t *testing.T) {
		l, r := start(t, Limits{Total: 1})
		c, err := good.Dial(t.Context(), l.Addr().String(), Coordinator)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		closed(t, raw(t, l))
		await(t, r, TooMany, 1)
		if err := talk(c); err != nil {
			t.Errorf("the one that is in: %v", err)
		}
	})
}

// Files that cannot be used are named at the start, with what is wrong.
func TestOpenErrors(t *testing.T) {
	ours, strangers := authority(t, "ours"), authority(t, "strangers")
	q := Request{Member: Member{Worker, "w"}}
	fine := member(t, ours, q)
	other := member(t, ours, q)
	expired := q
	expired.notBefore, expired.Validity = time.Now().Add(-48*time.Hour), 24*time.Hour
	late := member(t, ours, expired)
	strange := member(t, strangers, q)
	readable := member(t, ours, q)
	if err := os.Chmod(readable.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		files Config
		want  []string
	}{
		"not named":     {Config{CA: fine.CA}, []string{"certificate and key is missing"}},
		"no file":       {Config{fine.CA, "nowhere.pem", fine.Key}, []string{"nowhere.pem", "no such file"}},
		"no PEM":        {Config{fine.CA, empty, fine.Key}, []string{empty, "holds no certificate"}},
		"no key in it":  {Config{fine.CA, fine.Certificate, empty}, []string{empty, "holds no private key"}},
		"another's key": {Config{fine.CA, fine.Certificate, other.Key}, []string{other.Key, "is not the key of", fine.Certificate}},
		"expired":       {late, []string{late.Certificate, "expired on "}},
		"another CA":    {Config{fine.CA, strange.Certificate, strange.Key}, []string{strange.Certificate, "strangers CA", fine.CA}},
		"no CA":         {Config{fine.Certificate, fine.Certificate, fine.Key}, []string{fine.Certificate, "is not the certificate of a CA"}},
		"readable":      {readable, []string{readable.Key, "mode 0644", "chmod 600"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(c.files, nil, nil)
			if err == nil {
				t.Fatal("opened")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("Open = %v, want %q in it", err, w)
				}
			}
		})
	}
}

func TestDialEndsWithContext(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	ours := authority(t, "ours")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s := open(t, member(t, ours, Request{Member: Member{Worker, "w"}}), nil)
	if _, err := s.Dial(ctx, inner.Addr().String(), Coordinator); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial to one who does not answer = %v, want the deadline", err)
	}
}
