package credential

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// expectation is what one end of a link asks of the other's certificate.
type expectation struct {
	roots  *x509.CertPool
	now    time.Time
	usage  x509.ExtKeyUsage
	roles  []Role // any of these; none = any role
	host   string // name or address that the certificate must be for; "" = any
	source string // file of the roots, for errors
}

// check returns whom the other end's certificate is for. Errors are *RefusedError and say in words what is wrong.
func (e *expectation) check(chain []*x509.Certificate) (Member, error) {
	if len(chain) == 0 {
		return Member{}, &RefusedError{NoCertificate, errors.New("no certificate was shown; one signed by this fleet's CA is needed")}
	}
	leaf := chain[0]
	if err := inTime(leaf, e.now); err != nil {
		return Member{}, err
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: e.roots, Intermediates: between, CurrentTime: e.now, KeyUsages: []x509.ExtKeyUsage{e.usage},
	}); err != nil {
		reason := BadCertificate
		if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
			reason = UnknownCA
			err = fmt.Errorf("signed by %q, which is not in %s", leaf.Issuer.CommonName, e.source)
		}
		return Member{}, &RefusedError{reason, fmt.Errorf("certificate of %q: %w", leaf.Subject.CommonName, err)}
	}
	m, err := MemberOf(leaf)
	if err != nil {
		return Member{}, &RefusedError{WrongRole, err}
	}
	if len(e.roles) > 0 && !slices.Contains(e.roles, m.Role) {
		return m, &RefusedError{WrongRole, fmt.Errorf("certificate of %s: role %s; %s is needed here", m, m.Role, oneOf(e.roles))}
	}
	if e.host != "" {
		if err := leaf.VerifyHostname(e.host); err != nil {
			return m, &RefusedError{WrongName, fmt.Errorf("certificate of %s is for %s, not for %s", m, listed(leaf), e.host)}
		}
	}
	return m, nil
}

// inTime returns a *RefusedError unless now lies in the certificate's validity.
func inTime(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return &RefusedError{Expired, fmt.Errorf("certificate of %q expired on %s", c.Subject.CommonName, date(c.NotAfter))}
	case now.Before(c.NotBefore):
		return &RefusedError{NotYetValid, fmt.Errorf("certificate of %q is not valid before %s; is this machine's clock right? It says %s", c.Subject.CommonName, date(c.NotBefore), date(now))}
	}
	return nil
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func oneOf(roles []Role) string {
	words := make([]string, len(roles))
	for i, r := range roles {
		words[i] = string(r)
	}
	return strings.Join(words, " or ")
}

// listed returns the names and addresses that a certificate is for.
func listed(c *x509.Certificate) string {
	if names := Hosts(c); len(names) > 0 {
		return strings.Join(names, ", ")
	}
	return "no name or address"
}

// Hosts returns the names and addresses that a certificate is for.
func Hosts(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// reasonOf returns why a handshake failed, for counting.
func reasonOf(err error) Reason {
	var refused *RefusedError
	var header tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &refused):
		return refused.Reason
	case errors.As(err, &header), strings.Contains(err.Error(), "supported versions"), strings.Contains(err.Error(), "does not look like a TLS handshake"):
		return NoTLS
	case errors.As(err, &timeout) && timeout.Timeout():
		return HandshakeSlow
	}
	return HandshakeFailed
}
