package credential

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := NewAuthority(dir, AuthorityRequest{Name: "fleet", Algorithm: Ed25519})
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []string{"", P256, Ed25519} {
		i, err := a.Issue(Request{Member: Member{Coordinator, "a"}, Hosts: []string{"a.example", "10.0.0.1", "::1", "a.example"}, Validity: time.Hour, Algorithm: algorithm})
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(i.Certificate)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := MemberOf(c); err != nil || m != (Member{Coordinator, "a"}) {
			t.Errorf("MemberOf = %v, %v, want coordinator/a", m, err)
		}
		if got, want := Hosts(c), []string{"a.example", "10.0.0.1", "::1"}; !slices.Equal(got, want) {
			t.Errorf("Hosts = %v, want %v", got, want)
		}
		if left := time.Until(c.NotAfter); left > time.Hour || left < 59*time.Minute {
			t.Errorf("valid for %v, want an hour", left)
		}
		switch c.PublicKey.(type) {
		case ed25519.PublicKey:
			if algorithm != Ed25519 {
				t.Errorf("algorithm %q gave an Ed25519 key", algorithm)
			}
		case *ecdsa.PublicKey:
			if algorithm == Ed25519 {
				t.Error("algorithm ed25519 gave an ECDSA key")
			}
		}
	}
	for name, q := range map[string]Request{
		"role":     {Member: Member{"wroker", "a"}},
		"name":     {Member: Member{Worker, "a/b"}},
		"no name":  {Member: Member{Worker, ""}},
		"host":     {Member: Member{Worker, "a"}, Hosts: []string{"a:4222"}},
		"any":      {Member: Member{Worker, "a"}, Hosts: []string{"0.0.0.0"}},
		"validity": {Member: Member{Worker, "a"}, Validity: 100 * 365 * 24 * time.Hour},
		"key":      {Member: Member{Worker, "a"}, Algorithm: "rsa"},
	} {
		if _, err := a.Issue(q); err == nil {
			t.Errorf("%s: Issue(%+v) succeeded", name, q)
		} else if name == "role" && !strings.Contains(err.Error(), "did you mean worker?") {
			t.Errorf("Issue = %v, want the nearest role", err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, AuthorityKey)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the CA's key has mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	a, err := NewAuthority(dir, AuthorityRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewAuthority(dir, AuthorityRequest{}); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a second CA in the folder = %v, want a refusal that names --force", err)
	}
	b, err := OpenAuthority(dir)
	if err != nil || !b.Certificate.Equal(a.Certificate) {
		t.Fatalf("the CA after a refused second one: %v", err)
	}
	i, err := a.Issue(Request{Member: Member{Worker, "w"}})
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := i.Write(dir, "w", false)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v, %v, want 0600", info.Mode(), err)
	}
	if _, _, err := i.Write(dir, "w", false); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a second certificate = %v, want a refusal that names --force", err)
	}
	j, err := a.Issue(Request{Member: Member{Worker, "w"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := j.Write(dir, "w", true); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(key); err != nil || string(after) == string(before) {
		t.Errorf("--force left the old key, %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestLoopback(t *testing.T) {
	for in, want := range map[string]bool{
		"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, "127.9.9.9": true,
		"0.0.0.0:1": false, ":1": false, "[::]:1": false, "10.0.0.1:1": false, "host:1": false, "localhost.example:1": false,
	} {
		if got := Loopback(in); got != want {
			t.Errorf("Loopback(%q) = %v, want %v", in, got, want)
		}
	}
	err := CheckListen("cluster.listen", "0.0.0.0:4222", false)
	if err == nil || !strings.Contains(err.Error(), "counterpoint certs init") || !strings.Contains(err.Error(), "cluster.insecure") {
		t.Errorf("CheckListen = %v, want the command that makes certificates", err)
	}
	for _, c := range []struct {
		address string
		tls     bool
	}{{"127.0.0.1:4222", false}, {"0.0.0.0:4222", true}, {"", false}} {
		if err := CheckListen("k", c.address, c.tls); err != nil {
			t.Errorf("CheckListen(%q, %v) = %v", c.address, c.tls, err)
		}
	}
}

func TestParseConfig(t *testing.T) {
	a := authority(t, "ours")
	files := member(t, a, Request{Member: Member{Worker, "w"}})
	dir := filepath.Dir(files.Certificate) // holds ca.pem, w.pem and w.key
	for in, want := range map[string]*Config{
		"":                      nil,
		"a.pem,b.pem,b.key":     {"a.pem", "b.pem", "b.key"},
		filepath.Dir(files.Key): {filepath.Join(dir, "ca.pem"), files.Certificate, files.Key},
	} {
		got, err := ParseConfig(in)
		if err != nil || (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("ParseConfig(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"a,b", t.TempDir(), "nowhere"} {
		if got, err := ParseConfig(in); err == nil {
			t.Errorf("ParseConfig(%q) = %+v, want an error", in, got)
		}
	}
}
