package credential

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Config is cluster.tls of the YAML, and --tls of the command line: paths of PEM files.
type Config struct {
	CA          string `yaml:"ca,omitempty" json:"ca,omitempty"`                   // certificates that members must be signed by; several during a change of CA
	Certificate string `yaml:"certificate,omitempty" json:"certificate,omitempty"` // this process's own
	Key         string `yaml:"key,omitempty" json:"key,omitempty"`                 // of the certificate, readable by its owner only
}

// Check returns an error unless all three files are named.
func (c *Config) Check() error {
	var missing []string
	for _, f := range [][2]string{{"ca", c.CA}, {"certificate", c.Certificate}, {"key", c.Key}} {
		if f[1] == "" {
			missing = append(missing, f[0])
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("tls: %s is missing; ca, certificate and key are needed", strings.Join(missing, " and "))
	}
	return nil
}

// ErrInsecure marks a listener outside loopback that would have no TLS.
var ErrInsecure = errors.New("refused: TLS is required outside loopback")

// CheckListen returns an error that wraps ErrInsecure if an address can be reached from other machines and there is no
// TLS. An empty address is one that is not listened on.
func CheckListen(key, address string, tls bool) error {
	if address == "" || tls || Loopback(address) {
		return nil
	}
	return fmt.Errorf(`%s: %s can be reached from other machines and no tls is set: %w. Make certificates:
  counterpoint certs init ca
  counterpoint certs issue --ca ca --role coordinator --name a --host %s
and name them: cluster.tls: {ca: ca/ca.pem, certificate: a.pem, key: a.key}. In a network that nobody else can enter, cluster.insecure: true goes without`,
		key, address, ErrInsecure, hostOf(address))
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return "HOST"
	}
	return host
}

// Loopback reports whether only this machine can reach an address, host or host:port. A name other than localhost is
// not taken for loopback, whatever it resolves to today.
func Loopback(address string) bool {
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// ParseConfig reads --tls: CA,CERTIFICATE,KEY, or a folder that holds ca.pem, and tls.crt and tls.key, or one NAME.pem
// with its NAME.key beside it.
func ParseConfig(s string) (*Config, error) {
	if s == "" {
		return nil, nil
	}
	if parts := strings.Split(s, ","); len(parts) > 1 {
		if len(parts) != 3 {
			return nil, fmt.Errorf("--tls %s: CA,CERTIFICATE,KEY or a folder is expected", s)
		}
		return &Config{parts[0], parts[1], parts[2]}, nil
	}
	there := func(names ...string) string {
		for _, n := range names {
			if _, err := os.Stat(filepath.Join(s, n)); err == nil {
				return filepath.Join(s, n)
			}
		}
		return ""
	}
	c := &Config{CA: there("ca.pem", "ca.crt"), Certificate: there("tls.crt", "tls.pem"), Key: there("tls.key")}
	if c.Certificate == "" {
		keys, _ := filepath.Glob(filepath.Join(s, "*.key")) // the pattern is well formed
		for _, key := range keys {
			certificate := strings.TrimSuffix(key, ".key") + ".pem"
			if _, err := os.Stat(certificate); err != nil || filepath.Base(key) == AuthorityKey {
				continue
			}
			if c.Certificate != "" {
				return nil, fmt.Errorf("--tls %s: holds several certificates; name one: CA,CERTIFICATE,KEY", s)
			}
			c.Certificate, c.Key = certificate, key
		}
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("--tls %s: the folder holds not all of ca.pem, tls.crt and tls.key (or NAME.pem and NAME.key)", s)
	}
	return c, nil
}

// ReadToken reads a token from a file that others cannot read.
func ReadToken(name string) (Secret, error) {
	if name == "" {
		return Secret{}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return Secret{}, fmt.Errorf("token: %w", err)
	}
	if err := privateTo(name, info); err != nil {
		return Secret{}, fmt.Errorf("token: %w", err)
	}
	text, err := readFile(name)
	if err != nil {
		return Secret{}, fmt.Errorf("token: %w", err)
	}
	defer clear(text)
	token := strings.TrimSpace(string(text))
	if token == "" || len(token) > maxToken || strings.ContainsAny(token, " \n\t") {
		return Secret{}, fmt.Errorf("token: %s holds no token: one line is expected", name)
	}
	return NewSecret(token), nil
}
