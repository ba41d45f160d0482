package api

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus/membus"
)

// issue writes a certificate and its key and returns the configuration that names them.
func issue(t *testing.T, ca *credential.Authority, dir string, m credential.Member) credential.Config {
	t.Helper()
	i, err := ca.Issue(credential.Request{Member: m, Hosts: []string{"127.0.0.1", "localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	c := credential.Config{CA: filepath.Join(dir, credential.AuthorityName), Certificate: filepath.Join(dir, m.Name+".pem"), Key: filepath.Join(dir, m.Name+".key")}
	for name, text := range map[string][]byte{c.Certificate: i.Certificate, c.Key: i.Key} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Over TLS a token or a certificate says who somebody is; who shows neither, a bad one, or too small a one is refused.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca, err := credential.NewAuthority(dir, credential.AuthorityRequest{})
	if err != nil {
		t.Fatal(err)
	}
	refusals := &credential.Refusals{}
	source := func(m credential.Member, r *credential.Refusals) *credential.Source {
		s, err := credential.Open(issue(t, ca, dir, m), r, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	file := filepath.Join(dir, "tokens.txt")
	token := map[credential.Role]string{}
	for _, role := range []credential.Role{credential.Viewer, credential.Operator} {
		secret, err := credential.NewBearer(file, credential.Member{Role: role, Name: "ann"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		token[role] = secret.Reveal()
	}
	bearers, err := credential.OpenBearers(file)
	if err != nil {
		t.Fatal(err)
	}
	b := membus.New(1, time.Millisecond)
	newLeader(t, b, fourRuns...)
	s := open(t, b, func(o *Options) {
		o.TLS, o.Tokens, o.Refusals = source(credential.Member{Role: credential.Coordinator, Name: "a"}, refusals), bearers, refusals
	})
	if !strings.HasPrefix(s.URL(), "https://") {
		t.Fatalf("URL %s", s.URL())
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	plain := func() *tls.Config { return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13} }
	own := func(role credential.Role, name string) *tls.Config {
		return source(credential.Member{Role: role, Name: name}, nil).ClientConfig("127.0.0.1", credential.Coordinator)
	}
	for _, c := range []struct {
		name         string
		tls          *tls.Config
		token        string
		looks, steer string // code of the problem; "" = it is done
	}{
		{"an operator's token", plain(), token[credential.Operator], "", ""},
		{"a viewer's token", plain(), token[credential.Viewer], "", Forbidden},
		{"nothing", plain(), "", Unauthorized, Unauthorized},
		{"a stranger's token", plain(), "cpt_x", Unauthorized, Unauthorized},
		{"an operator's certificate", own(credential.Operator, "op"), "", "", ""},
		{"a viewer's certificate", own(credential.Viewer, "vi"), "", "", Forbidden},
		{"a worker's certificate", own(credential.Worker, "wo"), "", "?", "?"},
		{"an old protocol", &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12}, token[credential.Operator], "?", "?"}, //nolint:gosec // that is the point
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := NewClient(ClientOptions{Servers: []string{s.URL()}, Token: c.token, TLS: c.tls, Patience: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			check := func(what, want string, err error) {
				if want == "" && err != nil || want == "?" && err == nil || want != "" && want != "?" && !HasCode(err, want) {
					t.Errorf("%s = %v, want %q", what, err, want)
				}
			}
			_, err = k.Runs(t.Context())
			check("runs", c.looks, err)
			_, err = k.Control(t.Context(), "wiki", "pause", "")
			check("pause", c.steer, err)
		})
	}
	counts := refusals.Counts()
	for _, reason := range []credential.Reason{credential.BadToken, credential.NotPermitted, credential.WrongRole, credential.NoTLS, noToken} {
		if counts[string(reason)] == 0 {
			t.Errorf("no refusal for %q was counted: %v", reason, counts)
		}
	}
}

// Outside loopback there is no API without TLS.
func TestListen(t *testing.T) {
	for listen, want := range map[string]string{"0.0.0.0:0": "TLS is required", ":0": "TLS is required", "8300": "host:port is expected"} {
		if _, err := Open(t.Context(), Options{Listen: listen}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s) = %v, want %q", listen, err, want)
		}
	}
}
