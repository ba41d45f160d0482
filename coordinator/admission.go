package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// How workers with a good certificate are admitted: Config.Admit.
const (
	AdmitToken       = "token"       // by a join token, once for each worker's key
	AdmitCertificate = "certificate" // by the certificate alone
)

// guard is who may come in to a node: its certificates, and what was refused.
type guard struct {
	source   *credential.Source // nil = no TLS
	refusals *credential.Refusals
	admit    string

	server atomic.Pointer[bus.Server] // that is told when grants change

	mu       sync.Mutex
	of       *fsm.State              // that the index is of
	admitted map[string][]wire.Grant // by key, of every admitted one
}

// secure opens the certificates and refuses to listen without any where other machines could come in.
func (n *Node) secure() error {
	c := &n.o.Cluster
	n.guard.refusals, n.guard.admit = &credential.Refusals{Log: n.o.Log}, c.Admit
	if c.TLS != nil {
		var err error
		if n.guard.source, err = credential.Open(*c.TLS, n.guard.refusals, n.o.Log); err != nil {
			return fmt.Errorf("cluster.tls: %w", err)
		}
		if m := n.guard.source.Member(); m.Role != credential.Coordinator {
			return fmt.Errorf("cluster.tls.certificate: %s is of role %s; a coordinator's is needed", c.TLS.Certificate, m.Role)
		}
	}
	for key, address := range c.listens(n.name()) {
		err := credential.CheckListen(key, address, c.TLS != nil)
		if err != nil && c.Insecure {
			n.o.Log.Warn("WITHOUT TLS OUTSIDE LOOPBACK: whoever reaches this address can read and change everything (cluster.insecure: true)", "key", key, "address", address)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Grants implements bus.Directory from the log: which worker ids a key holds, and their runs.
func (n *Node) Grants(key string) (grants []wire.Grant, admitted bool) {
	s, g := n.machine.State(), &n.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of != s {
		members := make(map[string]*fsm.Member, len(s.Members))
		for i := range s.Members {
			members[s.Members[i].Worker] = &s.Members[i]
		}
		g.of, g.admitted = s, make(map[string][]wire.Grant, len(s.Admissions))
		for _, a := range s.Admissions {
			g.admitted[a.Key] = nil
		}
		for _, h := range s.Holders {
			if m := members[h.Worker]; m != nil {
				g.admitted[h.Key] = append(g.admitted[h.Key], wire.Grant{Worker: m.Worker, Run: m.Run})
			}
		}
	}
	grants, admitted = g.admitted[key]
	return grants, admitted
}

// admission lets a worker's key in, or says why not. The hello's signature shows that the key is the worker's.
func (l *leader) admission(q *wire.Hello) error {
	g := &l.guard
	if g.source == nil {
		return nil
	}
	if err := bus.CheckHello(q); err != nil {
		return err
	}
	if err := wire.CheckName("worker", q.Worker); err != nil {
		return &credential.RefusedError{Reason: credential.Malformed, Err: err}
	}
	s := l.machine.State()
	if s.Holder(q.Worker) == q.Key {
		return nil
	}
	hold, admit := &fsm.Hold{Worker: q.Worker, Key: q.Key}, &fsm.Admit{Key: q.Key, Name: q.Name}
	if s.Admission(q.Key) != nil {
		return rejected(l.propose(hold), credential.NotAdmitted)
	}
	if g.admit != AdmitCertificate {
		if q.Token == "" {
			return &credential.RefusedError{Reason: credential.NotAdmitted, Err: fmt.Errorf(
				"key %.8s of worker %.48s is not known here, so a join token is needed once: counterpoint certs token makes one, worker --join-token FILE shows it", q.Key, q.Name)}
		}
		join, err := credential.CheckJoin(credential.NewSecret(q.Token), g.source.Authorities(), time.Now())
		if err != nil {
			return err
		}
		admit.Token, admit.Uses = join.ID, join.Uses
	}
	err := rejected(l.propose(admit, hold), credential.TokenReplayed)
	if err == nil {
		l.o.Log.Info("worker admitted", "name", q.Name, "key", q.Key[:8], "token", fmt.Sprintf("%.8s", admit.Token))
	}
	return err
}

// rejected makes a refusal of what the log rejected.
func rejected(err error, reason credential.Reason) error {
	if errors.Is(err, fsm.ErrRejected) {
		return &credential.RefusedError{Reason: reason, Err: err}
	}
	return err
}

// turnAway refuses a worker that may not come in; nil = it may. Another error than a refusal is not answered: the worker
// asks again.
func (l *leader) turnAway(q *wire.Hello) (refused *wire.Welcome, again bool) {
	err := l.admission(q)
	var why *credential.RefusedError
	switch {
	case err == nil:
		return nil, false
	case errors.As(err, &why):
		l.guard.refusals.Add(why.Reason, fmt.Sprintf("worker %.64q", q.Worker), err)
		return &wire.Welcome{Refused: err.Error()}, false
	}
	return nil, true
}

// malformed counts messages that are none, or too large.
func (g *guard) malformed(err error) {
	switch {
	case errors.Is(err, wire.ErrTooLarge):
		g.refusals.Add(credential.Oversized, "bus", err)
	case errors.Is(err, wire.ErrMalformed), errors.Is(err, wire.ErrProtocol):
		g.refusals.Add(credential.Malformed, "bus", err)
	}
}

// granted tells the embedded server when what workers may do has changed.
func (n *Node) granted(before, after *fsm.State) {
	server := n.guard.server.Load()
	if server == nil || n.guard.source == nil {
		return
	}
	same := len(before.Admissions) == len(after.Admissions) && slices.Equal(before.Holders, after.Holders) &&
		slices.EqualFunc(before.Members, after.Members, func(a, b fsm.Member) bool {
			return a.Worker == b.Worker && a.Run == b.Run
		})
	if !same {
		server.Refresh()
	}
}

// Refused returns what this node has refused, by reason.
func (n *Node) Refused() map[string]int64 { return n.guard.refusals.Counts() }

// Source returns the node's certificates; nil = it has none.
func (n *Node) Source() *credential.Source { return n.guard.source }

// Refusals returns where refusals are counted, for other listeners of this process.
func (n *Node) Refusals() *credential.Refusals { return n.guard.refusals }
