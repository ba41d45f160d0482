package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
)

// network is what connects the hosts: namespaces on a bridge, or loopback.
type network struct {
	id     string // of this process: part of the names of everything that it makes
	spaces []string
	cut    map[[2]string]bool // directions in which packets are thrown away: from, to
}

// newNetwork makes the bridge; nil without an error: this machine does not let us.
func newNetwork(loopback bool) (*network, error) {
	n := &network{id: fmt.Sprintf("cp%d", os.Getpid()%100000), cut: map[[2]string]bool{}}
	if loopback || os.Geteuid() != 0 {
		return nil, nil
	}
	if err := ip("link", "add", n.bridge(), "type", "bridge"); err != nil {
		say("no network namespaces here: %v", err)
		return nil, nil
	}
	for _, args := range [][]string{{"addr", "add", subnet + "1/24", "dev", n.bridge()}, {"link", "set", n.bridge(), "up"}} {
		if err := ip(args...); err != nil {
			n.close()
			return nil, err
		}
	}
	return n, nil
}

// subnet is of the addresses that are set apart for benchmarks of networks (RFC 2544).
const subnet = "198.18.77."

func (n *network) bridge() string { return n.id + "b" }

// join makes a namespace with an address of its own on the bridge.
func (n *network) join(h *host, number int) error {
	h.space, h.address = fmt.Sprintf("%sn%d", n.id, number), fmt.Sprintf("%s%d", subnet, 10+number)
	outer, inner := fmt.Sprintf("%so%d", n.id, number), fmt.Sprintf("%si%d", n.id, number)
	n.spaces = append(n.spaces, h.space)
	for _, args := range [][]string{
		{"netns", "add", h.space},
		{"link", "add", outer, "type", "veth", "peer", "name", inner},
		{"link", "set", inner, "netns", h.space},
		{"link", "set", outer, "master", n.bridge()},
		{"link", "set", outer, "up"},
		{"-n", h.space, "addr", "add", h.address + "/24", "dev", inner},
		{"-n", h.space, "link", "set", inner, "up"},
		{"-n", h.space, "link", "set", "lo", "up"},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

// block throws away what from sends to to.
func (n *network) block(from, to *host) error {
	k := [2]string{from.name, to.name}
	if n.cut[k] {
		return nil
	}
	n.cut[k] = true
	return ip("-n", from.space, "route", "add", "blackhole", to.address+"/32")
}

func (n *network) unblock(from, to *host) error {
	k := [2]string{from.name, to.name}
	if !n.cut[k] {
		return nil
	}
	delete(n.cut, k)
	return ip("-n", from.space, "route", "del", "blackhole", to.address+"/32")
}

func (n *network) close() {
	if n == nil {
		return
	}
	for _, s := range n.spaces {
		if err := ip("netns", "del", s); err != nil {
			say("%v", err)
		}
	}
	if err := ip("link", "del", n.bridge()); err != nil {
		say("%v", err)
	}
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// freePorts returns ports of loopback that were free a moment ago.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that none comes twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
