package credential

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
)

// bearerPrefix begins a bearer token, so that it is known where it was leaked to.
const bearerPrefix = "cpt_"

// Bearers are the bearer tokens of the HTTP API. A file has one line for each, and never the token itself:
//
//	ROLE NAME SHA256-OF-THE-TOKEN EXPIRES
//
// EXPIRES is RFC 3339, or "never". A token has 256 random bits, so a plain hash of it cannot be guessed back. The file is
// read again when it changes, so tokens are made and taken back without a restart.
type Bearers struct {
	file string
	now  func() time.Time

	mu     sync.Mutex
	all    []bearer
	looked time.Time
	stamp  stamp
	err    error // of the newest reading; nobody is let in while there is one
}

type bearer struct {
	Member
	hash    [sha256.Size]byte
	expires time.Time // zero = never
}

// OpenBearers reads a file of tokens.
func OpenBearers(file string) (*Bearers, error) {
	b := &Bearers{file: file, now: time.Now}
	b.read()
	return b, b.err
}

// NewBearer makes a token and adds its line to a file, which is made if it is not there (mode 0600). valid 0 = it never
// expires. The token is returned once and kept nowhere.
func NewBearer(file string, m Member, valid time.Duration) (Secret, error) {
	if m.Role != Operator && m.Role != Viewer {
		return Secret{}, fmt.Errorf("role %s: a bearer token is for an operator or a viewer", m.Role)
	}
	if err := CheckName(m.Name); err != nil {
		return Secret{}, err
	}
	raw := make([]byte, 32)
	rand.Read(raw) // never fails
	token := bearerPrefix + base64.RawURLEncoding.EncodeToString(raw)
	expires := "never"
	if valid > 0 {
		expires = time.Now().Add(valid).UTC().Format(time.RFC3339)
	}
	old, err := readFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Secret{}, err
	}
	if len(old) > 0 && !bytes.HasSuffix(old, []byte("\n")) {
		old = append(old, '\n')
	}
	hash := sha256.Sum256([]byte(token))
	line := fmt.Sprintf("%s %s %s %s\n", m.Role, m.Name, hex.EncodeToString(hash[:]), expires)
	if _, err := parseBearers(file, append(old, line...)); err != nil {
		return Secret{}, err // the file had an error before
	}
	return NewSecret(token), writeFile(file, append(old, line...), 0o600, true)
}

// Check returns whom a token is for. Every line is compared, each in constant time, so that how long it takes tells
// nothing. Errors are *RefusedError and do not quote the token.
func (b *Bearers) Check(token Secret) (Member, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now(); now.Sub(b.looked) >= checkEvery || now.Before(b.looked) {
		b.read()
	}
	if b.err != nil {
		return Member{}, &RefusedError{BadToken, b.err}
	}
	text := token.Reveal()
	if len(text) > maxToken {
		text = ""
	}
	hash := sha256.Sum256([]byte(text))
	found := -1
	for i := range b.all {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], b.all[i].hash[:]), i, found)
	}
	if found < 0 {
		return Member{}, &RefusedError{BadToken, errors.New("bearer token: unknown; counterpoint token makes one")}
	}
	t := b.all[found]
	if !t.expires.IsZero() && !b.now().Before(t.expires) {
		return Member{}, &RefusedError{TokenExpired, fmt.Errorf("bearer token of %s expired on %s", t.Member, date(t.expires))}
	}
	return t.Member, nil
}

// read reads the file if it has changed.
func (b *Bearers) read() {
	b.looked = b.now()
	info, err := os.Stat(b.file)
	if err == nil {
		if at := (stamp{info.ModTime(), info.Size(), inode(info)}); at == b.stamp && b.err == nil {
			return
		} else {
			b.stamp = at
		}
		err = privateTo(b.file, info)
	}
	var text []byte
	if err == nil {
		text, err = readFile(b.file)
	}
	if err == nil {
		b.all, err = parseBearers(b.file, text)
	}
	if b.err = err; err != nil {
		b.err = fmt.Errorf("bearer tokens: %w", err)
	}
}

// parseBearers reads the lines of a file; empty ones and those that begin with # say nothing.
func parseBearers(file string, text []byte) ([]bearer, error) {
	var all []bearer
	for i, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		wrong := func(what string) error {
			return fmt.Errorf("%s:%d: %s; a line is ROLE NAME SHA256 EXPIRES", file, i+1, what)
		}
		f := strings.Fields(line)
		if len(f) != 4 {
			return nil, wrong(fmt.Sprintf("%d words", len(f)))
		}
		role, err := ParseRole(f[0])
		if err != nil || role != Operator && role != Viewer {
			return nil, wrong(fmt.Sprintf("role %.20q; operator and viewer are allowed", f[0]))
		}
		t := bearer{Member: Member{role, f[1]}}
		if err := CheckName(f[1]); err != nil {
			return nil, wrong(err.Error())
		}
		if n, err := hex.Decode(t.hash[:], []byte(f[2][:min(len(f[2]), 2*sha256.Size)])); err != nil || n != sha256.Size || len(f[2]) != 2*sha256.Size {
			return nil, wrong("the third word is not a SHA-256 in hex") // not quoted: somebody may have put a token there
		}
		if f[3] != "never" {
			if t.expires, err = time.Parse(time.RFC3339, f[3]); err != nil {
				return nil, wrong(fmt.Sprintf("%.30q is no time such as 2026-12-31T00:00:00Z, nor never", f[3]))
			}
		}
		all = append(all, t)
	}
	return all, nil
}
