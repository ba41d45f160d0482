package bus

import (
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// Directory says what workers' keys may do: what the log says of admissions, members and their runs. It is asked by many
// goroutines and answers from memory.
type Directory interface {
	// Grants returns the worker ids that a key holds and their runs. admitted is false for a key that has not joined.
	Grants(key string) (grants []wire.Grant, admitted bool)
}

// Bounds of an embedded server that asks for certificates, on what one can take.
const (
	maxConnections = 16 << 10
	maxPerAddress  = 2048 // authenticated ones
	maxSubjects    = 4096 // subscriptions of a connection
	maxHellos      = 256  // TLS handshakes of one address a second
)

// door is who may come in, and to what: the server's authentication. Certificates decide about roles, and nkeys which
// worker it is.
type door struct {
	source    *credential.Source
	directory Directory
	refusals  *credential.Refusals
	grace     time.Duration // how long what a worker could do before stays allowed
	local     string        // password of this process's own connections
	system    string        // of the system user

	nats *server.Server // set before it accepts anybody

	mu      sync.Mutex
	guests  map[uint64]*guest // by connection id
	knocked map[string]int    // TLS handshakes by address, in the second that began at since
	since   time.Time
	timer   *time.Timer // looks again when a grace is over
	closed  bool
}

// guest is a worker's connection.
type guest struct {
	client  server.ClientAuthentication
	id      uint64
	key     string
	host    string
	granted grants
	over    []wire.Grant // no longer granted, and allowed until then
	until   time.Time
}

type grants struct {
	admitted bool
	all      []wire.Grant
}

// configure sets a server up to ask everybody who they are. With TLS the handshake comes first: a stranger is told
// nothing and sends nothing before it.
func (d *door) configure(o *server.Options) {
	o.CustomClientAuthentication = d
	o.AlwaysEnableNonce = true
	o.TLSConfig = d.source.ServerConfig()
	answer := o.TLSConfig.GetConfigForClient
	o.TLSConfig.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if err := d.knock(hello.Conn.RemoteAddr()); err != nil {
			return nil, err
		}
		return answer(hello)
	}
	o.TLS, o.TLSVerify, o.TLSHandshakeFirst = true, true, true
	// Seconds for each. The processors may be busy computing.
	patience := max(2, 2*d.grace.Seconds())
	o.TLSTimeout, o.AuthTimeout = patience, patience
	o.MaxConn, o.MaxSubs = maxConnections, maxSubjects
}

// knock counts a handshake that an address begins, and refuses it when there are too many in this second: before
// anything is computed.
func (d *door) knock(from net.Addr) error {
	host := hostOf(from)
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.since) >= time.Second {
		d.since = now
		clear(d.knocked)
	}
	if d.knocked[host]++; d.knocked[host] > maxHellos {
		err := &credential.RefusedError{Reason: credential.TooManyAddress, Err: fmt.Errorf("%s begins more than %d handshakes a second", host, maxHellos)}
		d.refusals.Add(err.Reason, from.String(), err)
		return err
	}
	return nil
}

func hostOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}

// Check implements server.Authentication.
func (d *door) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	account := account
	user := &server.User{}
	switch {
	case equal(o.Username, "system") && equal(o.Password, d.system):
		account, user.Username = server.DEFAULT_SYSTEM_ACCOUNT, "system"
	case equal(o.Username, "local") && equal(o.Password, d.local):
		user.Username = "local"
	default:
		var err error
		if user, err = d.guest(c); err != nil {
			var refused *credential.RefusedError
			if errors.As(err, &refused) {
				d.refusals.Add(refused.Reason, c.RemoteAddress().String(), err)
			}
			return false
		}
	}
	a, err := d.nats.LookupAccount(account)
	if err != nil {
		return false
	}
	user.Account = a
	c.RegisterUser(user)
	return true
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// guest returns the user of a connection from outside, by its certificate and, for a worker, by its key.
func (d *door) guest(c server.ClientAuthentication) (*server.User, error) {
	state := c.GetTLSConnectionState()
	if state == nil {
		return nil, &credential.RefusedError{Reason: credential.NoTLS, Err: errors.New("a connection without TLS")}
	}
	member, err := credential.PeerOf(*state)
	if err != nil {
		return nil, &credential.RefusedError{Reason: credential.WrongRole, Err: err}
	}
	user := &server.User{Username: member.String()}
	inbox := inboxOf(member, "")
	switch member.Role {
	case credential.Coordinator:
		return user, nil
	case credential.Operator:
		user.Permissions = permissions([]string{wire.StatusSubject, wire.LogsSubject, wire.RunsSubject, wire.SubmitSubject, wire.ControlSubject}, nil, []string{wire.LogSubject}, inbox)
		return user, nil
	case credential.Viewer:
		user.Permissions = permissions([]string{wire.StatusSubject, wire.LogsSubject, wire.RunsSubject}, nil, []string{wire.LogSubject}, inbox)
		return user, nil
	}
	o := c.GetOpts()
	signature, err := base64.RawURLEncoding.DecodeString(o.Sig)
	if err == nil {
		err = verify(o.Nkey, c.GetNonce(), signature)
	}
	if err != nil {
		return nil, &credential.RefusedError{Reason: credential.BadSignature, Err: fmt.Errorf("%s: %w", member, err)}
	}
	g := &guest{client: c, id: c.GetID(), key: o.Nkey, host: hostOf(c.RemoteAddress())}
	g.granted = d.granted(g.key)
	user.Username, user.Permissions = member.String()+"/"+g.key[:8], g.permissions()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sweep()
	near := 0
	for _, other := range d.guests {
		if other.host == g.host {
			near++
		}
	}
	if near >= maxPerAddress {
		return nil, &credential.RefusedError{Reason: credential.TooManyAddress, Err: fmt.Errorf("%s has %d connections open", g.host, near)}
	}
	d.guests[g.id] = g
	return user, nil
}

// inboxOf returns the prefix of the subjects at which somebody is answered. Each has its own, so that nobody reads
// another's.
func inboxOf(m credential.Member, key string) string {
	if m.Role == credential.Worker {
		return "_INBOX." + key
	}
	return "_INBOX." + string(m.Role) + "-" + strings.ReplaceAll(m.Name, ".", "_")
}

func permissions(publish, deny, subscribe []string, inbox string) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish, Deny: deny},
		Subscribe: &server.SubjectPermission{Allow: append(subscribe, inbox+".>")},
		// Who was asked may answer, once.
		Response: &server.ResponsePermission{MaxMsgs: 1, Expires: 2 * time.Minute},
	}
}

func (g *guest) permissions() *server.Permissions {
	all := slices.Concat(g.granted.all, g.over)
	publish, deny, subscribe := wire.Permissions(g.granted.admitted, all)
	return permissions(publish, deny, subscribe, inboxOf(credential.Member{Role: credential.Worker}, g.key))
}

func (d *door) granted(key string) grants {
	if d.directory == nil {
		return grants{}
	}
	all, admitted := d.directory.Grants(key)
	return grants{admitted, slices.Clone(all)}
}

// refresh lets every worker do what the log says now. What is new is allowed at once, on the open connection; what is
// over ends after a grace, in which a worker that leaves a run ends its subscriptions. A connection that still has one
// then is closed.
func (d *door) refresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.sweep()
	now := time.Now()
	next := time.Time{}
	for _, g := range d.guests {
		is := d.granted(g.key)
		changed := is.admitted != g.granted.admitted || !slices.Equal(is.all, g.granted.all)
		if changed {
			for _, old := range g.granted.all {
				if old.Run != "" && !slices.Contains(is.all, old) && !slices.Contains(g.over, old) {
					g.over, g.until = append(g.over, old), now.Add(d.grace)
				}
			}
			g.over = slices.DeleteFunc(g.over, func(old wire.Grant) bool { return slices.Contains(is.all, old) })
			g.granted = is
		}
		if len(g.over) > 0 && !now.Before(g.until) {
			g.over, changed = nil, true
			d.evict(g)
		}
		if changed {
			g.client.RegisterUser(&server.User{Permissions: g.permissions()})
		}
		if len(g.over) > 0 && (next.IsZero() || g.until.Before(next)) {
			next = g.until
		}
	}
	if !next.IsZero() {
		if d.timer != nil {
			d.timer.Stop()
		}
		d.timer = time.AfterFunc(time.Until(next)+time.Millisecond, d.refresh)
	}
}

// evict closes a connection that is subscribed to what it may no longer see.
func (d *door) evict(g *guest) {
	z, err := d.nats.Connz(&server.ConnzOptions{CID: g.id, Subscriptions: true})
	if err != nil || len(z.Conns) == 0 {
		return
	}
	_, _, allowed := wire.Permissions(g.granted.admitted, g.granted.all)
	allowed = append(allowed, inboxOf(credential.Member{Role: credential.Worker}, g.key)+".>")
	for _, s := range z.Conns[0].Subs {
		if !slices.ContainsFunc(allowed, func(pattern string) bool { return server.SubjectsCollide(pattern, s) }) {
			d.refusals.Add(credential.NotPermitted, g.client.RemoteAddress().String(), fmt.Errorf("key %.8s stays subscribed to %s, which it was granted before", g.key, s))
			_ = d.nats.DisconnectClientByID(g.id) // the only error is that it is gone
			return
		}
	}
}

// sweep forgets connections that have ended. The lock is held.
func (d *door) sweep() {
	for id := range d.guests {
		if d.nats.GetClient(id) == nil {
			delete(d.guests, id)
		}
	}
}

func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
}
