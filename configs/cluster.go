package configs

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// memberName is what a coordinator may be called: its names appear in ids, subjects and folders.
var memberName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// Label is what a worker may say of itself and a run may ask for.
var Label = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,63}=[A-Za-z0-9._/-]{1,63}$`)

// checkCluster refuses a list of coordinators that cannot be a group, and workers that there cannot be.
func checkCluster(c *Config, m *merger) {
	fail := func(key, format string, args ...any) { m.fail(m.at(key), key, format, args...) }
	for i, l := range c.Cluster.Labels {
		if key := fmt.Sprintf("cluster.labels[%d]", i); !Label.MatchString(l) {
			fail(key, "found %q; KEY=VALUE of letters, digits, `.`, `_`, `-` and `/` is allowed, such as gpu=h200", l)
		}
	}
	if least, most := c.Cluster.WorkersMin, c.Cluster.WorkersMax; most > 0 && least > most {
		fail("cluster.workers_min", "%d is more than workers_max: %d", least, most)
	}
	all, own := c.Cluster.Coordinators, c.Cluster.NATS.URL != ""
	switch len(all) {
	case 0, 1, 3, 5:
	default:
		fail("cluster.coordinators", "are %d; 1, 3 or 5 are allowed: an even number survives no more losses than one fewer", len(all))
	}
	for _, text := range strings.Split(c.Cluster.NATS.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if own && (err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls") {
			fail("cluster.nats.url", "has a part that is no address; nats://host:port is expected, several separated by commas")
		}
	}
	names, addresses := map[string]bool{}, map[string]string{}
	for i, one := range all {
		at := fmt.Sprintf("cluster.coordinators[%d]", i)
		if !memberName.MatchString(one.Name) {
			fail(at+".name", "found %q; letters, digits, `_` and `-` are allowed, at most 63", one.Name)
		}
		if names[one.Name] {
			fail(at+".name", "%q names two coordinators", one.Name)
		}
		names[one.Name] = true
		for _, a := range []struct {
			key, value string
			needed     bool
		}{{"raft", one.Raft, true}, {"nats", one.NATS, !own}, {"route", one.Route, !own && len(all) > 1}, {"api", one.API, false}} {
			key := at + "." + a.key
			if a.value == "" {
				if a.needed {
					m.fail(m.at(at), at, "has no %s, host:port, which is needed", a.key)
				}
				continue
			}
			host, port, err := net.SplitHostPort(a.value)
			number, wrong := strconv.Atoi(port)
			ip := net.ParseIP(host)
			if err != nil || wrong != nil || number < 1 || number > 65535 || host == "" || ip != nil && ip.IsUnspecified() {
				fail(key, "found %q; host:port where others reach it is expected, such as 10.0.0.1:7300", a.value)
			}
			if other := addresses[a.value]; other != "" {
				fail(key, "%s is the address of %s as well", a.value, other)
			}
			addresses[a.value] = key
		}
	}
	if len(all) > 1 && !c.Hosts && c.Checkpoint.Dir == "" && c.Checkpoint.Store == "" {
		fail("checkpoint.dir", "is needed with several coordinators: a folder that all of them and the workers reach by the same path; or checkpoint.store")
	}
}

// clusterFiles finds the files that cluster: names.
func (m *merger) clusterFiles(c *Config) {
	m.resolve("cluster.tokens", &c.Cluster.Tokens)
	if t := c.Cluster.TLS; t != nil {
		m.resolve("cluster.tls.ca", &t.CA)
		m.resolve("cluster.tls.certificate", &t.Certificate)
		m.resolve("cluster.tls.key", &t.Key)
		if err := t.Check(); err != nil {
			m.fail(m.at("cluster.tls"), "cluster.tls", "%v", err)
		}
	}
}
