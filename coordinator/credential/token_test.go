package credential

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestJoinToken(t *testing.T) {
	for _, algorithm := range []string{P256, Ed25519} {
		t.Run(algorithm, func(t *testing.T) {
			a, err := NewAuthority(t.TempDir(), AuthorityRequest{Algorithm: algorithm})
			if err != nil {
				t.Fatal(err)
			}
			other := authority(t, "strangers")
			token, made, err := a.JoinToken(time.Hour, 3)
			if err != nil {
				t.Fatal(err)
			}
			ours := []*x509.Certificate{other.Certificate, a.Certificate}
			j, err := CheckJoin(token, ours, time.Now())
			if err != nil || j != made {
				t.Fatalf("CheckJoin = %+v, %v, want %+v", j, err, made)
			}
			text := token.Reveal()
			flipped := []byte(text)
			flipped[len(text)/3] ^= 1
			for name, c := range map[string]struct {
				token  string
				by     []*x509.Certificate
				now    time.Time
				reason Reason
			}{
				"another CA":  {text, []*x509.Certificate{other.Certificate}, time.Now(), BadToken},
				"expired":     {text, ours, made.Expires, TokenExpired},
				"a bit":       {string(flipped), ours, time.Now(), BadToken},
				"cut":         {text[:len(text)-8], ours, time.Now(), BadToken},
				"more":        {text + "AAAA", ours, time.Now(), BadToken},
				"empty":       {"", ours, time.Now(), BadToken},
				"only prefix": {joinPrefix, ours, time.Now(), BadToken},
				"long":        {joinPrefix + strings.Repeat("A", 1<<20), ours, time.Now(), BadToken},
			} {
				_, err := CheckJoin(NewSecret(c.token), c.by, c.now)
				var refused *RefusedError
				if !errors.As(err, &refused) || refused.Reason != c.reason {
					t.Errorf("%s: CheckJoin = %v, want refused for %q", name, err, c.reason)
				} else if len(c.token) > 12 && strings.Contains(err.Error(), c.token[8:12]) {
					t.Errorf("%s: %v quotes the token", name, err)
				}
			}
		})
	}
}

func TestBearers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	operator, err := NewBearer(file, Member{Operator, "ann"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenBearers(file)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	b.now = func() time.Time { return now }
	viewer, err := NewBearer(file, Member{Viewer, "wall"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * checkEvery)
	for token, want := range map[Secret]Member{operator: {Operator, "ann"}, viewer: {Viewer, "wall"}} {
		if m, err := b.Check(token); err != nil || m != want {
			t.Errorf("Check = %v, %v, want %v", m, err, want)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(operator.Reveal())) || bytes.Contains(text, []byte(operator.Reveal()[len(bearerPrefix):])) {
		t.Error("the file holds the token")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	refused := func(what string, token Secret, reason Reason) {
		t.Helper()
		var e *RefusedError
		if _, err := b.Check(token); !errors.As(err, &e) || e.Reason != reason {
			t.Errorf("%s: Check = %v, want refused for %q", what, err, reason)
		}
	}
	refused("none", Secret{}, BadToken)
	refused("unknown", NewSecret(operator.Reveal()[:20]), BadToken)
	now = now.Add(time.Hour)
	refused("late", operator, TokenExpired)

	// Taken back: its line is removed.
	lines := strings.SplitAfter(string(text), "\n")
	if err := os.WriteFile(file, []byte(lines[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * checkEvery)
	refused("taken back", viewer, BadToken)
	if err := os.WriteFile(file, []byte("operator "+operator.Reveal()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * checkEvery)
	refused("a file with an error", operator, BadToken)
	if _, err := b.Check(operator); err == nil || !strings.Contains(err.Error(), file+":1") || strings.Contains(err.Error(), operator.Reveal()) {
		t.Errorf("Check = %v, want file and line, and not the token", err)
	}
	if _, err := NewBearer(file, Member{Worker, "w"}, 0); err == nil {
		t.Error("a bearer token for a worker was made")
	}
}

func TestMay(t *testing.T) {
	for _, c := range []struct {
		who, what Role
		want      bool
	}{
		{Operator, Viewer, true},
		{Operator, Operator, true},
		{Viewer, Viewer, true},
		{Viewer, Operator, false},
		{Coordinator, Operator, true},
		{Worker, Viewer, false},
		{Operator, Coordinator, false},
		{Operator, Worker, false},
		{"", Viewer, false},
	} {
		if got := c.who.May(c.what); got != c.want {
			t.Errorf("%q.May(%q) = %v, want %v", c.who, c.what, got, c.want)
		}
	}
}

func FuzzJoinToken(f *testing.F) {
	a, err := NewAuthority(f.TempDir(), AuthorityRequest{Algorithm: Ed25519})
	if err != nil {
		f.Fatal(err)
	}
	token, made, err := a.JoinToken(time.Hour, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token.Reveal())
	f.Add(joinPrefix)
	f.Add(joinPrefix + strings.Repeat("AQAA", 30))
	f.Fuzz(func(t *testing.T, text string) {
		j, err := CheckJoin(NewSecret(text), []*x509.Certificate{a.Certificate}, made.Expires.Add(-time.Minute))
		if err == nil && (text != token.Reveal() || j != made) {
			t.Errorf("%q was taken for %+v", text, j)
		}
	})
}

func FuzzBearers(f *testing.F) {
	hash := strings.Repeat("ab", 32)
	f.Add([]byte("operator ann " + hash + " never\n# x\n\nviewer b " + hash + " 2026-12-31T00:00:00Z\n"))
	f.Add([]byte("operator ann abc never"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseBearers("f", text)
		if err != nil {
			return
		}
		for _, b := range all {
			if b.Role != Operator && b.Role != Viewer || CheckName(b.Name) != nil {
				t.Errorf("%q gave %+v", text, b.Member)
			}
		}
	})
}
