package bus

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
)

// ErrRefused says that the server did not take this connection's certificate or key. Its log says why.
var ErrRefused = errors.New("the server refused this certificate or key; the coordinator's log and status say why")

// ErrNotPermitted says that a subject is not this connection's: of another run, or not granted yet.
var ErrNotPermitted = errors.New("not permitted")

// identity is how a connection shows who it is.
func (o *Options) identity() []nats.Option {
	if o.Server != nil {
		if d := o.Server.door; d != nil {
			return []nats.Option{nats.UserInfo("local", d.local)}
		}
		return nil
	}
	if o.TLS == nil {
		return nil
	}
	all := []nats.Option{
		nats.SetCustomDialer(&dialer{o.TLS, max(2*o.FailureTimeout, 4*time.Second)}),
		nats.IgnoreAuthErrorAbort(), // a certificate that has ended is renewed some time
	}
	m, public := o.TLS.Member(), ""
	if o.Key != nil {
		public = o.Key.public
		all = append(all, nats.Nkey(public, o.Key.sign))
	}
	if m.Role != credential.Coordinator && (m.Role != credential.Worker || public != "") {
		all = append(all, nats.CustomInboxPrefix(inboxOf(m, public)))
	}
	return all
}

// dialer connects with TLS first: nothing is sent or believed before both ends have shown their certificates.
type dialer struct {
	source  *credential.Source
	timeout time.Duration
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(_, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout)
	defer cancel()
	c, err := d.source.Dial(ctx, address, credential.Coordinator)
	if err != nil {
		return nil, err // not a nil *tls.Conn, which the library would close
	}
	return c, nil
}

// SkipTLSHandshake tells the library that Dial has done it.
func (d *dialer) SkipTLSHandshake() bool { return true }

// refusedBy translates what a client sees of a refusal.
func refusedBy(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || strings.Contains(err.Error(), "remote error: tls: ") {
		return errors.Join(ErrRefused, err)
	}
	return err
}
