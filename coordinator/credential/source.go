package credential

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// checkEvery is how often a Source looks whether its files have changed, at most: when a connection is made.
const checkEvery = time.Second

// maxFile bounds the size of a PEM file.
const maxFile = 1 << 20

// Source holds a process's certificate and the CA, and reads them again when their files change: new connections use
// the new ones, those that are open live on. Files that cannot be used, or do not belong together yet, leave the old ones
// in place, with a warning. It has no goroutine; it looks when a connection is made.
type Source struct {
	files    Config
	log      *slog.Logger
	refusals *Refusals
	now      func() time.Time

	mu      sync.Mutex
	current *loaded
	looked  time.Time
	stamp   [3]stamp
	wrong   string    // the newest reload's error, so that it is logged once
	warned  time.Time // when the certificate's end was last warned of
}

// stamp tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// loaded is one version of the files.
type loaded struct {
	certificate tls.Certificate
	roots       *x509.CertPool
	authorities []*x509.Certificate
	member      Member
}

// Open reads the files of a configuration. Errors name the file and what is wrong with it: not readable, no PEM,
// expired on a date, a key of another certificate, a CA that did not sign it. refusals counts what the tls.Configs refuse;
// nil = nothing is counted.
func Open(files Config, refusals *Refusals, log *slog.Logger) (*Source, error) {
	if err := files.Check(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Source{files: files, log: log, refusals: refusals, now: time.Now}
	s.stamp = s.stamps()
	var err error
	if s.current, err = s.load(); err != nil {
		return nil, err
	}
	s.looked = s.now()
	s.warn(s.current)
	return s, nil
}

// Member returns whom this process's certificate is for.
func (s *Source) Member() Member { return s.newest().member }

// Authorities returns the CA's certificates.
func (s *Source) Authorities() []*x509.Certificate { return s.newest().authorities }

// Refusals returns where refusals are counted; nil = nowhere.
func (s *Source) Refusals() *Refusals { return s.refusals }

// Files returns where the source reads.
func (s *Source) Files() Config { return s.files }

// newest returns the newest files that can be used.
func (s *Source) newest() *loaded {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.looked) < checkEvery && !now.Before(s.looked) {
		return s.current
	}
	s.looked = now
	at := s.stamps()
	if at == s.stamp && s.wrong == "" {
		s.warn(s.current)
		return s.current
	}
	next, err := s.load()
	if err != nil {
		if s.wrong != err.Error() {
			s.log.Warn("certificate files changed and cannot be used; the ones of before stay in use", "error", err)
		}
		s.wrong = err.Error()
		return s.current
	}
	s.stamp, s.wrong = at, ""
	s.log.Info("certificate files read again", "member", next.member.String(), "valid_until", date(next.certificate.Leaf.NotAfter))
	s.current = next
	s.warn(next)
	return next
}

// warn tells once a day that the certificate ends soon: within a tenth of its time.
func (s *Source) warn(l *loaded) {
	leaf, now := l.certificate.Leaf, s.now()
	left, whole := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
	if left > whole/10 || now.Sub(s.warned) < 24*time.Hour {
		return
	}
	s.warned = now
	s.log.Warn("certificate ends soon; renew it with counterpoint certs renew", "file", s.files.Certificate, "valid_until", date(leaf.NotAfter))
}

func (s *Source) stamps() (all [3]stamp) {
	for i, name := range []string{s.files.CA, s.files.Certificate, s.files.Key} {
		if info, err := os.Stat(name); err == nil {
			all[i] = stamp{info.ModTime(), info.Size(), inode(info)}
		}
	}
	return all
}

func (s *Source) load() (*loaded, error) {
	l := &loaded{}
	var err error
	if l.authorities, err = ReadCertificates(s.files.CA); err != nil {
		return nil, err
	}
	l.roots = x509.NewCertPool()
	for _, c := range l.authorities {
		if !c.IsCA {
			return nil, fmt.Errorf("%s: %q is not the certificate of a CA", s.files.CA, c.Subject.CommonName)
		}
		l.roots.AddCert(c)
	}
	chain, err := ReadCertificates(s.files.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := ReadKey(s.files.Key)
	if err != nil {
		return nil, err
	}
	l.certificate = tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		l.certificate.Certificate = append(l.certificate.Certificate, c.Raw)
	}
	if public, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool }); ok && !public.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", s.files.Key, s.files.Certificate)
	}
	e := &expectation{roots: l.roots, now: s.now(), usage: x509.ExtKeyUsageAny, source: s.files.CA}
	if l.member, err = e.check(chain); err != nil {
		return nil, fmt.Errorf("%s: %w", s.files.Certificate, err)
	}
	return l, nil
}

// ReadCertificates reads the certificates of a PEM file, at least one.
func ReadCertificates(name string) ([]*x509.Certificate, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of %s: %w", len(all)+1, name, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no certificate: a PEM block CERTIFICATE is expected", name)
	}
	return all, nil
}

// readFile reads a small file.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return b, nil
}

// privateTo returns an error if others than the owner and its group can read a file of secrets.
func privateTo(name string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return fmt.Errorf("%s can be read by everybody on this machine (mode %04o); chmod 600 %s", name, mode, name)
	}
	return nil
}

// AnyHost as the host of ClientConfig says that the role alone tells a peer: for workers, whose addresses are not known
// when their certificates are made.
const AnyHost = "*"

// ServerConfig returns the TLS configuration of a listener: TLS 1.3, and a certificate of one of the roles is asked of
// everybody who connects; without roles any role of the fleet is good. What is refused is counted.
func (s *Source) ServerConfig(roles ...Role) *tls.Config {
	roles = slices.Clone(roles)
	base := &tls.Config{MinVersion: tls.VersionTLS13}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		from := ""
		if hello.Conn != nil {
			from = hello.Conn.RemoteAddr().String()
		}
		if !slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
			err := &RefusedError{NoTLS, errors.New("the client speaks no TLS 1.3")}
			s.refusals.Add(err.Reason, from, err)
			return nil, err
		}
		l := s.newest()
		return &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{l.certificate},
			NextProtos:   base.NextProtos,
			// Asked for and checked below, where a missing, an expired and a stranger's certificate have words of their
			// own and are counted.
			ClientAuth:             tls.RequestClientCert,
			SessionTicketsDisabled: true, // a resumed session would not show its certificate again
			VerifyConnection: func(c tls.ConnectionState) error {
				return s.verify(l, c, x509.ExtKeyUsageClientAuth, roles, "", from)
			},
		}, nil
	}
	return base
}

// ClientConfig returns the TLS configuration for connecting to host, which the other's certificate must be for, and
// which must have one of the roles. With host "" the name is the one that the dialer sets as ServerName, if it is not an
// address; AnyHost asks for none. Make a new one for every connection that is to know of a new CA.
func (s *Source) ClientConfig(host string, roles ...Role) *tls.Config {
	roles = slices.Clone(roles)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &s.newest().certificate, nil
		},
		// The library's own check knows the CA of when this configuration was made, and no roles: VerifyConnection
		// checks chain, time, use, role and name with the newest CA.
		InsecureSkipVerify: true,
	}
	if host != AnyHost {
		c.ServerName = host
	}
	c.VerifyConnection = func(state tls.ConnectionState) error {
		name := host
		switch host {
		case "":
			name = state.ServerName
		case AnyHost:
			name = ""
		}
		return s.verify(s.newest(), state, x509.ExtKeyUsageServerAuth, roles, name, name)
	}
	return c
}

// MeshConfig returns one configuration for both ends of links among coordinators, where a library uses the same for
// listening and connecting: NATS routes. Names are not compared, since such a library dials addresses; the role is.
func (s *Source) MeshConfig(roles ...Role) *tls.Config {
	c := s.ClientConfig(AnyHost, roles...)
	c.GetConfigForClient = s.ServerConfig(roles...).GetConfigForClient
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &s.newest().certificate, nil }
	c.ClientAuth = tls.RequestClientCert
	return c
}

// verify checks the other end's certificate and counts what is refused.
func (s *Source) verify(l *loaded, c tls.ConnectionState, usage x509.ExtKeyUsage, roles []Role, host, from string) error {
	e := &expectation{roots: l.roots, now: s.now(), usage: usage, roles: roles, host: host, source: s.files.CA}
	_, err := e.check(c.PeerCertificates)
	var refused *RefusedError
	if errors.As(err, &refused) {
		s.refusals.Add(refused.Reason, from, err)
	}
	return err
}

// Dial connects to host:port over TCP and TLS. The other end must be for that host and have one of the roles.
func (s *Source) Dial(ctx context.Context, address string, roles ...Role) (*tls.Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, s.ClientConfig(address, roles...))
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS with %s: %w", address, err), raw.Close())
	}
	return c, nil
}

// PeerOf returns whom the other end of a connection is, after its handshake.
func PeerOf(c tls.ConnectionState) (Member, error) {
	if len(c.PeerCertificates) == 0 {
		return Member{}, &RefusedError{NoCertificate, errors.New("no certificate was shown")}
	}
	return MemberOf(c.PeerCertificates[0])
}
