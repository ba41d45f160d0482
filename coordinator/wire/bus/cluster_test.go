package bus_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// free returns addresses on which nobody listens.
func free(t *testing.T, n int) (out []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not after 10s: " + what)
		}
	}
}

// Clients of routed servers talk to each other, learn of each other's servers, and every server tells of every client
// that is gone.
func TestCluster(t *testing.T) {
	routes := free(t, 3)
	var mu sync.Mutex
	gone := map[int][]string{}
	var servers []*bus.Server
	for i := range routes {
		s := start(t, bus.ServerOptions{
			Listen: "127.0.0.1:0", Cluster: &bus.Cluster{Name: string(rune('a' + i)), Listen: routes[i], Routes: routes},
			Disconnected: func(name, _ string) {
				mu.Lock()
				defer mu.Unlock()
				gone[i] = append(gone[i], name)
			},
		})
		servers = append(servers, s)
	}
	for _, s := range servers {
		eventually(t, "all servers are connected", func() bool { return s.Routes() == 2 })
	}
	leader := connect(t, bus.Options{Server: servers[2], Name: "leader"})
	if _, err := bus.Serve(leader, "beats", "q", func(q *wire.Beat, reply func(*wire.Pulse)) {
		reply(&wire.Pulse{Known: q.Worker == "w"})
	}); err != nil {
		t.Fatal(err)
	}
	if err := leader.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	worker := connect(t, bus.Options{URL: servers[0].URL(), Name: "worker"})
	eventually(t, "a worker of one server is answered by another's", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // a request may be lost with its connection
		defer cancel()
		p, err := bus.Request[wire.Pulse](ctx, worker, "beats", &wire.Beat{Worker: "w"})
		return err == nil && p.Known
	})
	other := connect(t, bus.Options{URL: servers[1].URL(), Name: "short"})
	if err := other.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.Close()
	for i := range servers {
		eventually(t, "every server tells of the client that is gone", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(strings.Join(gone[i], " "), "short")
		})
	}
	began := time.Now()
	servers[0].Close() // the worker knew no other address than this one's
	eventually(t, "the worker is connected to another server", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // a request may be lost with its connection
		defer cancel()
		p, err := bus.Request[wire.Pulse](ctx, worker, "beats", &wire.Beat{Worker: "w"})
		return err == nil && p.Known
	})
	t.Logf("the worker goes on %v after its server closed", time.Since(began))
}

func TestClusterAddress(t *testing.T) {
	if _, err := bus.StartServer(bus.ServerOptions{Cluster: &bus.Cluster{Name: "a", Listen: "nonsense"}}); err == nil || !strings.Contains(err.Error(), "routes") {
		t.Errorf("StartServer = %v, want an error about the routes", err)
	}
}

// A server of the user's whose messages are too small is refused with what to set.
func TestSmallPayload(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // as much of NATS as it takes to connect
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Write([]byte(`INFO {"server_id":"x","version":"2.10.0","proto":1,"max_payload":1048576}` + "\r\n"))
				line := make([]byte, 4096)
				for {
					if _, err := c.Read(line); err != nil {
						return
					}
					_, _ = c.Write([]byte("PONG\r\n"))
				}
			}()
		}
	}()
	_, err = bus.Connect(t.Context(), bus.Options{URL: "nats://" + l.Addr().String(), Name: "a"})
	if err == nil || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("Connect = %v, want an error about max_payload", err)
	}
}
