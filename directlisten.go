package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/worker/collective"
	"github.com/counterpoint-ml/counterpoint/worker/direct"
)

// noDirect is the value of --direct-listen that turns the direct listener off.
const noDirect = "off"

// listenDirect starts what other workers connect to. where is host:port, "" for any port on the interface by which the
// coordinator at join is reached, or off: then it returns nil. The address is what others are told.
func listenDirect(where, join string, timeout time.Duration, source *credential.Source, log *slog.Logger) (n *direct.Node, address string, err error) {
	if where == noDirect {
		return nil, "", nil
	}
	if where == "" {
		host, err := interfaceTo(join)
		if err != nil {
			log.Info("no direct connections to other workers: the interface to the coordinator is not known", "join", join, "err", err)
			return nil, "", nil
		}
		where = net.JoinHostPort(host, "0")
	}
	host, _, err := net.SplitHostPort(where)
	if err != nil {
		return nil, "", fmt.Errorf("--direct-listen %q: HOST:PORT is expected (port 0 for any free one), or %s: %w", where, noDirect, err)
	}
	o := direct.Options{Listen: where, Failure: timeout, Buffer: collective.Buffer, Recycle: collective.Recycle, Log: log}
	switch {
	case source != nil:
		// Any worker of the fleet, those that a coordinator's process starts among them: addresses of workers are not known when certificates are made. The run's secret tells
		// whether it is one of this run.
		o.Server, o.Client = source.ServerConfig(credential.Worker, credential.Coordinator), source.ClientConfig(credential.AnyHost, credential.Worker, credential.Coordinator)
	case !credential.Loopback(where):
		log.Warn("WITHOUT TLS OUTSIDE LOOPBACK: whoever can read this network reads what workers exchange; --tls encrypts it, --direct-listen off goes over NATS only", "address", where)
	}
	n, err = direct.Listen(o)
	if err != nil {
		return nil, "", fmt.Errorf("--direct-listen: %w", err)
	}
	address = n.Address()
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() { // all interfaces: others are told one
		_, port, err := net.SplitHostPort(address)
		if err == nil {
			host, err = interfaceTo(join)
		}
		if err != nil {
			n.Close()
			return nil, "", fmt.Errorf("--direct-listen %q: no address to tell other workers; name one of this machine's: %w", where, err)
		}
		address = net.JoinHostPort(host, port)
	}
	return n, address, nil
}

// interfaceTo returns the local address from which the first of some NATS addresses is reached. Nothing is sent.
func interfaceTo(join string) (string, error) {
	first, _, _ := strings.Cut(join, ",")
	if !strings.Contains(first, "://") {
		first = "nats://" + first
	}
	u, err := url.Parse(strings.TrimSpace(first))
	if err != nil {
		return "", err
	}
	port := u.Port()
	if port == "" {
		port = "4222"
	}
	c, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	return host, err
}
