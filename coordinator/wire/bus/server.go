package bus

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// account holds everything that is ours; the server's own account is apart, and no worker can reach it.
const account = "COUNTERPOINT"

// ServerOptions configure an embedded server.
type ServerOptions struct {
	Listen         string        // host:port; port 0 = any free one; "" = connections of this process only
	FailureTimeout time.Duration // pings derive from it; 0 = 1 s
	Log            *slog.Logger  // nil = none
	// TLS asks everybody who connects over the network for a certificate, and workers for their key as well; nil = plain,
	// for loopback: whoever connects may do everything.
	TLS       *credential.Source
	Directory Directory            // what workers' keys may do; needed with TLS
	Refusals  *credential.Refusals // where refusals are counted; nil = nowhere
	// Disconnected is called with the name of every client connection that ends, and why, from one goroutine. In a
	// cluster that is every client of every server.
	Disconnected func(name, reason string)
	Cluster      *Cluster // nil = this server alone
}

// Cluster is how a server joins others: clients of all of them talk to each other as if there were one.
type Cluster struct {
	Name      string      // this server's, unique among them
	Listen    string      // host:port for the others
	Routes    []string    // host:port of the others, any number of them there yet
	Advertise string      // host:port that clients of the others are told of, to come here when theirs is gone; "" = Listen of the server
	TLS       *tls.Config // of the routes, both ways; nil = plain, for loopback
}

// options fills in a server's options for the routes.
func (c *Cluster) options(opts *server.Options) (err error) {
	opts.ServerName = c.Name
	opts.ClientAdvertise = c.Advertise
	cluster := &opts.Cluster
	cluster.Name = "counterpoint"
	cluster.TLSConfig = c.TLS
	cluster.TLSTimeout, cluster.AuthTimeout = 2, 2 // seconds
	cluster.PingInterval, cluster.MaxPingsOut = opts.PingInterval, opts.MaxPingsOut
	cluster.WriteDeadline = opts.WriteDeadline
	if cluster.Host, cluster.Port, err = hostPort(c.Listen); err != nil {
		return err
	}
	for _, r := range c.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: r})
	}
	return nil
}

// hostPort parses an address to listen on.
func hostPort(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("listen on %q: host:port is expected, such as 127.0.0.1:4222: %w", address, err)
	}
	if port, err = strconv.Atoi(text); err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("listen on %q: port %q is not 0 to 65535", address, text)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port, nil
}

// Server is a NATS server in this process. It installs no signal handlers and writes nothing to disk.
type Server struct {
	nats   *server.Server
	system *nats.Conn
	door   *door // nil = open to all
}

// StartServer starts a server and returns when it accepts connections.
func StartServer(o ServerOptions) (_ *Server, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FailureTimeout <= 0 {
		o.FailureTimeout = time.Second
	}
	timers := NewTimers(o.FailureTimeout)
	opts := &server.Options{
		ServerName:    "counterpoint",
		NoLog:         true,
		NoSigs:        true,
		MaxPayload:    wire.MaxMessage,
		MaxPending:    128 << 20, // a reader that is this far behind is cut off, and says so on reconnect
		PingInterval:  timers.Ping,
		MaxPingsOut:   2,
		WriteDeadline: timers.Write,
		DontListen:    o.Listen == "",
	}
	if o.Listen != "" {
		if opts.Host, opts.Port, err = hostPort(o.Listen); err != nil {
			return nil, err
		}
	}
	if o.Cluster != nil {
		if err := o.Cluster.options(opts); err != nil {
			return nil, fmt.Errorf("routes to other coordinators: %w", err)
		}
	}

	secret := rand.Text()
	ours, system := server.NewAccount(account), server.NewAccount(server.DEFAULT_SYSTEM_ACCOUNT)
	opts.Accounts = []*server.Account{ours, system}
	opts.SystemAccount = server.DEFAULT_SYSTEM_ACCOUNT
	var d *door
	if o.TLS != nil {
		d = &door{
			source: o.TLS, directory: o.Directory, refusals: o.Refusals, grace: 2 * o.FailureTimeout, local: rand.Text(), system: secret,
			guests: map[uint64]*guest{}, knocked: map[string]int{},
		}
		d.configure(opts)
	} else {
		opts.Users = []*server.User{
			{Username: "worker", Password: "worker", Account: ours},
			{Username: "system", Password: secret, Account: system},
		}
		opts.NoAuthUser = "worker"
	}

	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	s := &Server{nats: ns, door: d}
	if d != nil {
		d.nats = ns
	}
	logger := &serverLog{log: o.Log, refusals: o.Refusals}
	ns.SetLogger(logger, o.TLS != nil, false)
	ns.Start()
	// Ready at once or a port that is taken, which only the log tells.
	for deadline := time.Now().Add(10 * time.Second); !ns.ReadyForConnections(20 * time.Millisecond); {
		err := logger.Fatal()
		if err == nil && time.Now().After(deadline) {
			err = errors.New("not ready after 10s")
		}
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("embedded NATS server on %q: %w", o.Listen, err)
		}
	}
	if o.Disconnected != nil {
		if err := s.watch(secret, o.Disconnected); err != nil {
			s.Close()
			return nil, fmt.Errorf("embedded NATS server: watch connections: %w", err)
		}
	}
	return s, nil
}

// watch calls f for every connection that ends: the server knows it from the socket, milliseconds after a process
// dies, and tells its system account.
func (s *Server) watch(secret string, f func(name, reason string)) error {
	c, err := nats.Connect("", nats.InProcessServer(s.nats), nats.UserInfo("system", secret), nats.Name("system"))
	if err != nil {
		return err
	}
	s.system = c
	_, err = c.Subscribe("$SYS.ACCOUNT."+account+".DISCONNECT", func(m *nats.Msg) {
		var event struct {
			Client struct {
				Name string `json:"name"`
			} `json:"client"`
			Reason string `json:"reason"`
		}
		if json.Unmarshal(m.Data, &event) == nil && event.Client.Name != "" {
			f(event.Client.Name, event.Reason)
		}
	})
	return errors.Join(err, c.Flush())
}

// Routes returns how many other servers this one is connected to.
func (s *Server) Routes() int {
	others := map[string]bool{}
	if z, err := s.nats.Routez(nil); err == nil {
		for _, r := range z.Routes {
			others[r.RemoteID] = true
		}
	}
	return len(others)
}

// Refresh lets workers do what the Directory says now. It is called when admissions, members or their runs have changed.
func (s *Server) Refresh() {
	if s.door != nil {
		s.door.refresh()
	}
}

// URL returns where clients connect, nats://host:port; "" when the server does not listen.
func (s *Server) URL() string {
	if s.nats.Addr() == nil {
		return ""
	}
	return s.nats.ClientURL()
}

// Close ends all connections and waits for the server's goroutines.
func (s *Server) Close() {
	if s.system != nil {
		s.system.Close()
	}
	if s.door != nil {
		s.door.close()
	}
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}
