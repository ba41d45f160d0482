package credential

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Files of an Authority's folder.
const (
	AuthorityName = "ca.pem"
	AuthorityKey  = "ca.key"
)

// backdate is how long before its making a certificate is valid, for clocks that are behind.
const backdate = 5 * time.Minute

// Authority is a CA of one fleet: a certificate and its key. The key is needed to issue certificates and join tokens,
// and nowhere else: no coordinator needs it.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// AuthorityRequest says what CA to make.
type AuthorityRequest struct {
	Name      string        // of the fleet, for people
	Validity  time.Duration // 0 = 10 years
	Algorithm string        // P256 or Ed25519; "" = P256
	Force     bool          // replace one that is there
}

// NewAuthority makes a CA in a folder: ca.pem, and ca.key with mode 0600.
func NewAuthority(dir string, q AuthorityRequest) (*Authority, error) {
	if q.Name == "" {
		q.Name = "counterpoint"
	}
	if q.Validity <= 0 {
		q.Validity = 10 * 365 * 24 * time.Hour
	}
	if !q.Force { // before a key is made: half a CA is worse than none
		for _, name := range []string{AuthorityName, AuthorityKey} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				return nil, fmt.Errorf("%s is there already; --force replaces it, and with it every certificate that it signed ends", filepath.Join(dir, name))
			}
		}
	}
	key, text, err := newKey(q.Algorithm)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: q.Name + " CA", Organization: []string{q.Name}},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(q.Validity),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the CA's certificate: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := errors.Join(
		writeFile(filepath.Join(dir, AuthorityKey), text, 0o600, q.Force),
		writeFile(filepath.Join(dir, AuthorityName), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644, q.Force),
	); err != nil {
		return nil, err
	}
	return OpenAuthority(dir)
}

// OpenAuthority reads the CA of a folder.
func OpenAuthority(dir string) (*Authority, error) {
	chain, err := ReadCertificates(filepath.Join(dir, AuthorityName))
	if err != nil {
		return nil, fmt.Errorf("CA in %s: %w; counterpoint certs init %s makes one", dir, err, dir)
	}
	key, err := ReadKey(filepath.Join(dir, AuthorityKey))
	if err != nil {
		return nil, fmt.Errorf("CA in %s: %w", dir, err)
	}
	if public, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool }); ok && !public.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("CA in %s: %s is not the key of %s", dir, AuthorityKey, AuthorityName)
	}
	if err := inTime(chain[0], time.Now()); err != nil {
		return nil, fmt.Errorf("CA in %s: %w", dir, err)
	}
	return &Authority{chain[0], key}, nil
}

// Request says for whom to issue a certificate.
type Request struct {
	Member
	Hosts     []string      // names and addresses that it is reached at
	Validity  time.Duration // 0 = a year
	Algorithm string        // P256 or Ed25519; "" = P256

	notBefore time.Time // zero = now; for tests
}

// Issued is a certificate and its key, in PEM.
type Issued struct {
	Certificate []byte
	Key         []byte
	NotAfter    time.Time
}

// Issue makes a key and a certificate for it.
func (a *Authority) Issue(q Request) (*Issued, error) {
	if _, err := ParseRole(string(q.Role)); err != nil {
		return nil, err
	}
	if err := CheckName(q.Name); err != nil {
		return nil, err
	}
	if q.Validity == 0 {
		q.Validity = 365 * 24 * time.Hour
	}
	if q.Validity < time.Second {
		return nil, fmt.Errorf("validity %v: at least a second is needed", q.Validity)
	}
	begin := q.notBefore
	if begin.IsZero() {
		begin = time.Now().Add(-backdate)
	}
	end := begin.Add(q.Validity)
	if q.notBefore.IsZero() {
		end = time.Now().Add(q.Validity)
	}
	if end.After(a.Certificate.NotAfter) {
		return nil, fmt.Errorf("validity until %s: the CA itself ends on %s", date(end), date(a.Certificate.NotAfter))
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: q.Name, OrganizationalUnit: []string{string(q.Role)}},
		NotBefore: begin, NotAfter: end, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{q.uri()},
	}
	if q.Role == Coordinator || q.Role == Worker { // those that listen: workers for one another
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, host := range q.Hosts {
		if err := addHost(t, host); err != nil {
			return nil, err
		}
	}
	key, text, err := newKey(q.Algorithm)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.Certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("issue the certificate of %s: %w", q.Member, err)
	}
	return &Issued{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), text, t.NotAfter}, nil
}

// addHost adds a DNS name or an address.
func addHost(t *x509.Certificate, host string) error {
	if ip := net.ParseIP(host); ip != nil {
		if ip.IsUnspecified() {
			return fmt.Errorf("host %s is no address that anybody connects to; name the machine's", host)
		}
		if !slices.ContainsFunc(t.IPAddresses, ip.Equal) {
			t.IPAddresses = append(t.IPAddresses, ip)
		}
		return nil
	}
	if host == "" || len(host) > 253 || strings.ContainsAny(host, " :/@,\t\n") {
		return fmt.Errorf("host %q is neither a DNS name nor an address; leave the port out", host)
	}
	if !slices.Contains(t.DNSNames, host) {
		t.DNSNames = append(t.DNSNames, host)
	}
	return nil
}

// Write writes NAME.pem and NAME.key (mode 0600) into a folder and returns their paths.
func (i *Issued) Write(dir, name string, force bool) (certificate, key string, err error) {
	certificate, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	if !force {
		for _, f := range []string{certificate, key} {
			if _, err := os.Lstat(f); err == nil {
				return "", "", fmt.Errorf("%s is there already; --force replaces it", f)
			}
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	return certificate, key, i.replace(certificate, key, force)
}

// replace writes both files, each as a whole. Between the two a Source sees a key of another certificate, and keeps
// what it has until both are there.
func (i *Issued) replace(certificate, key string, force bool) error {
	return errors.Join(writeFile(key, i.Key, 0o600, force), writeFile(certificate, i.Certificate, 0o644, force))
}

// Renew issues a new key and certificate for whom an old certificate is for, with its hosts, and replaces both files.
// Processes that use them need no restart.
func (a *Authority) Renew(certificate, key string, validity time.Duration, algorithm string) (*Issued, error) {
	chain, err := ReadCertificates(certificate)
	if err != nil {
		return nil, err
	}
	old := chain[0]
	m, err := MemberOf(old)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certificate, err)
	}
	if err := old.CheckSignatureFrom(a.Certificate); err != nil {
		return nil, fmt.Errorf("%s is signed by %q, not by this CA, %q", certificate, old.Issuer.CommonName, a.Certificate.Subject.CommonName)
	}
	if validity == 0 {
		validity = old.NotAfter.Sub(old.NotBefore) - backdate
	}
	i, err := a.Issue(Request{Member: m, Hosts: Hosts(old), Validity: validity, Algorithm: algorithm})
	if err != nil {
		return nil, err
	}
	return i, i.replace(certificate, key, true)
}

// serial returns a random serial number of 127 bits.
func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}

// PEM returns the CA's certificate, which everybody may have.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
}
