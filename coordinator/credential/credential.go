// Package credential says who somebody is: certificates with a role in them, join tokens, bearer tokens, and the TLS
// configurations that every link of a fleet uses. DESIGN.md says against whom.
//
// A Source reads a CA, a certificate and a key, and reads them again when the files change. It hands out tls.Configs
// for both ends of a link: TLS 1.3 only, mutual, each end's role read from its certificate. What is refused is counted
// by reason in Refusals and named in the log.
package credential

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// Role is what a member of a fleet may do.
type Role string

// The roles.
const (
	Coordinator Role = "coordinator" // holds the log; may do everything
	Worker      Role = "worker"      // computes for the run that it is assigned to
	Operator    Role = "operator"    // submits and steers runs
	Viewer      Role = "viewer"      // sees
)

// Roles lists all roles.
var Roles = []Role{Coordinator, Worker, Operator, Viewer}

// ParseRole returns the role of that name.
func ParseRole(s string) (Role, error) {
	if slices.Contains(Roles, Role(s)) {
		return Role(s), nil
	}
	names := make([]string, len(Roles))
	for i, r := range Roles {
		names[i] = string(r)
	}
	meant := ""
	if n := spelling.Nearest(s, names); n != "" {
		meant = fmt.Sprintf("; did you mean %s?", n)
	}
	return "", fmt.Errorf("role %q; allowed: %s%s", s, strings.Join(names, ", "), meant)
}

// May reports whether a role includes what another may do over the HTTP API and the command line.
func (r Role) May(what Role) bool {
	switch r {
	case Coordinator, Operator:
		return what == Operator || what == Viewer || what == r
	}
	return r == what
}

// Member is who a certificate or a bearer token speaks for.
type Member struct {
	Role Role
	Name string
}

// String returns role/name.
func (m Member) String() string { return string(m.Role) + "/" + m.Name }

// scheme begins the URI of a certificate that holds role and name: counterpoint://worker/gpu7.
const scheme = "counterpoint"

func (m Member) uri() *url.URL {
	return &url.URL{Scheme: scheme, Host: string(m.Role), Path: "/" + m.Name}
}

// MemberOf returns whom a certificate is for: what its URI counterpoint://ROLE/NAME says.
func MemberOf(c *x509.Certificate) (Member, error) {
	for _, u := range c.URIs {
		if u.Scheme != scheme {
			continue
		}
		role, err := ParseRole(u.Host)
		if err != nil {
			return Member{}, fmt.Errorf("certificate of %q: %w", c.Subject.CommonName, err)
		}
		m := Member{Role: role, Name: strings.TrimPrefix(u.Path, "/")}
		if err := CheckName(m.Name); err != nil {
			return Member{}, fmt.Errorf("certificate of %q: %w", c.Subject.CommonName, err)
		}
		return m, nil
	}
	return Member{}, fmt.Errorf("certificate of %q names no role: it has no URI %s://ROLE/NAME; counterpoint certs issue makes one", c.Subject.CommonName, scheme)
}

// CheckName returns an error unless s can name a member: 1 to 64 letters, digits, '-', '_' and '.', the first a
// letter or a digit.
func CheckName(s string) error {
	if s == "" || len(s) > 64 {
		return fmt.Errorf("name %q: 1 to 64 characters are allowed, not %d", s, len(s))
	}
	for i, c := range s {
		switch {
		case c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
		case i > 0 && (c == '-' || c == '_' || c == '.'):
		default:
			return fmt.Errorf("name %q: %q is not allowed there; letters, digits, -, _ and . are, a letter or digit first", s, c)
		}
	}
	return nil
}
