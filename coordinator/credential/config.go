package credential

import (
	"errors"
	"fmt"
	"net"
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
