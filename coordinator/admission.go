package coordinator

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
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

	mu     sync.Mutex
	of     *fsm.State // that the index is of
	grants map[string][]wire.Grant
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
	for key, address := range c.listens() {
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
		g.of, g.grants = s, make(map[string][]wire.Grant, len(s.Members))
		for _, m := range s.Members {
			if m.Key != "" {
				g.grants[m.Key] = append(g.grants[m.Key], wire.Grant{Worker: m.Worker, Run: runOf(s, &m)})
			}
		}
	}
	return g.grants[key], s.Admission(key) != nil
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
	if l.machine.State().Admission(q.Key) != nil {
		return nil
	}
	c := &fsm.Admit{Key: q.Key, Name: q.Name}
	if g.admit != AdmitCertificate {
		join, err := credential.CheckJoin(credential.NewSecret(q.Token), authorities(g.source), time.Now())
		if err != nil {
			if q.Token == "" {
				err = &credential.RefusedError{Reason: credential.NotAdmitted, Err: fmt.Errorf("key %.8s of worker %.48s is not known here, and a join token is needed once: counterpoint certs token makes one, worker --token FILE shows it", q.Key, q.Name)}
			}
			return err
		}
		c.Token, c.Uses = join.ID, join.Uses
	}
	err := l.propose(c)
	if errors.Is(err, fsm.ErrRejected) {
		return &credential.RefusedError{Reason: credential.TokenReplayed, Err: err}
	}
	if err == nil {
		l.o.Log.Info("worker admitted", "name", q.Name, "key", q.Key[:8], "token", fmt.Sprintf("%.8s", c.Token))
	}
	return err
}

func authorities(s *credential.Source) []*x509.Certificate { return s.Authorities() }

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
	if n.server == nil || n.guard.source == nil {
		return
	}
	same := len(before.Admissions) == len(after.Admissions) && slices.EqualFunc(before.Members, after.Members, func(a, b fsm.Member) bool {
		return a.Worker == b.Worker && a.Key == b.Key && runOf(before, &a) == runOf(after, &b)
	})
	if !same {
		n.server.Refresh()
	}
}

// Refused returns what this node has refused, by reason.
func (n *Node) Refused() map[string]int64 { return n.guard.refusals.Counts() }

// Source returns the node's certificates; nil = it has none.
func (n *Node) Source() *credential.Source { return n.guard.source }

// Refusals returns where refusals are counted, for other listeners of this process.
func (n *Node) Refusals() *credential.Refusals { return n.guard.refusals }
