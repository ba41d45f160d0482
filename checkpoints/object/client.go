package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// errLocal marks errors of this machine's disk: trying again at the store does not help.
var errLocal = errors.New("this machine's disk")

// errStalled ends a request whose bytes stand still.
var errStalled = errors.New("nothing moved")

var errNoCredentials = errors.New("no credentials were found; set " + credentialNames)

// newCore returns the client. It connects when first used; requests are tried again by Store.try, not by it.
func newCore(p Place, transport http.RoundTripper) (*minio.Core, error) {
	if transport == nil {
		t, err := minio.DefaultTransport(p.Endpoint.Scheme == "https")
		if err != nil {
			return nil, err
		}
		t.DialContext = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
		t.ResponseHeaderTimeout = time.Minute
		transport = t
	}
	lookup := minio.BucketLookupDNS
	if p.PathStyle {
		lookup = minio.BucketLookupPath
	}
	return minio.NewCore(p.Endpoint.Host, &minio.Options{
		Creds: credentials.New(&identity{p: p}), Secure: p.Endpoint.Scheme == "https", Region: p.Region, BucketLookup: lookup,
		Transport: transport, MaxRetries: 1,
	})
}

// identity finds credentials in the environment, in the files of aws and mc, and where the machine has one, in its role.
// Unlike minio-go's chain it does not go on without: a bucket that everybody may write to is nobody's wish.
type identity struct {
	p    Place
	used credentials.Provider
}

// Retrieve implements credentials.Provider.
func (i *identity) Retrieve() (credentials.Value, error) { return i.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext implements credentials.Provider.
func (i *identity) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	all := []credentials.Provider{&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}}
	var told error
	if i.p.role() {
		all = append(all, &credentials.IAM{Region: i.p.Region, Client: &http.Client{Timeout: 5 * time.Second}})
	}
	for _, p := range all {
		v, err := p.RetrieveWithCredContext(cc)
		if err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
			i.used = p
			return v, nil
		}
		if _, role := p.(*credentials.IAM); role && err != nil {
			told = err
		}
	}
	if told != nil {
		return credentials.Value{}, fmt.Errorf("%w (the machine's role: %w)", errNoCredentials, told)
	}
	return credentials.Value{}, errNoCredentials
}

// IsExpired implements credentials.Provider.
func (i *identity) IsExpired() bool { return i.used == nil || i.used.IsExpired() }

// role reports whether this machine may have a role: AWS's servers, or an environment that says so. Elsewhere the
// question would only wait for an address that nobody has.
func (p Place) role() bool {
	for _, name := range []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return !p.PathStyle && os.Getenv("AWS_EC2_METADATA_DISABLED") != "true"
}

// Backoff of requests: before try k a random part of min(maxPause, firstPause * 2^k), as AWS's builders' library has it.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
	fewest     = 3 // tries after the first, however long each took
)

// try makes a request until it succeeds, is refused for good, or the store has given no sign for the store's patience.
// touch tells that bytes move.
func (s *Store) try(ctx context.Context, op, key string, request func(ctx context.Context, touch func()) error) error {
	began := time.Now()
	for attempt := 0; ; attempt++ {
		err := s.watched(ctx, request)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !transient(err) && !(unsure(err) && attempt < fewest) || attempt >= fewest && time.Since(began) > s.o.Patience:
			return s.fail(op, key, err)
		}
		s.o.Log.Debug("a request to the checkpoint store is tried again", "error", s.fail(op, key, err), "attempt", attempt+1)
		pause := time.Duration(rand.Int64N(int64(min(maxPause, firstPause<<min(attempt, 10)))))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watched makes one request and ends it when nothing has moved for a while.
func (s *Store) watched(ctx context.Context, request func(ctx context.Context, touch func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(s.o.Stall, func() { cancel(fmt.Errorf("%w for %v", errStalled, s.o.Stall)) })
	defer timer.Stop()
	err := request(ctx, func() { timer.Reset(s.o.Stall) })
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errStalled) {
		return cause
	}
	return err
}

// moving tells of each read.
type moving struct {
	io.Reader
	touch func()
}

func (m moving) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.touch()
	return n, err
}
