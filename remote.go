package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/coordinator/api"
	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// remote is how a command finds the fleet that it steers.
type remote struct {
	servers, token, tls string
	json                bool
}

// flags adds the flags that all steering commands share.
func (r *remote) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.servers, "server", "", "a coordinator's API, http://HOST:PORT; several, separated by commas, are tried in turn (COUNTERPOINT_SERVER; default "+api.DefaultServer+")")
	f.StringVar(&r.token, "token", "", "bearer token, or @FILE that holds one (COUNTERPOINT_TOKEN)")
	f.StringVar(&r.tls, "tls", "", "CA.pem, or CA.pem,CERTIFICATE.pem,KEY for a certificate of one's own, for https (COUNTERPOINT_TLS)")
	f.BoolVar(&r.json, "json", false, "as JSON, for scripts")
}

// client returns the client that the flags and the environment ask for.
func (r *remote) client() (*api.Client, error) {
	given := func(flag, name string) string {
		if flag == "" {
			flag = os.Getenv(name)
		}
		return flag
	}
	o := api.ClientOptions{Agent: "counterpoint/" + version}
	for _, s := range strings.Split(given(r.servers, "COUNTERPOINT_SERVER"), ",") {
		if s = strings.TrimSpace(s); s != "" {
			o.Servers = append(o.Servers, s)
		}
	}
	o.Token = given(r.token, "COUNTERPOINT_TOKEN")
	if file, ok := strings.CutPrefix(o.Token, "@"); ok {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--token: %w", err)
		}
		o.Token = strings.TrimSpace(string(text))
	}
	if files := given(r.tls, "COUNTERPOINT_TLS"); files != "" {
		var err error
		if o.TLS, err = clientTLS(strings.Split(files, ",")); err != nil {
			return nil, fmt.Errorf("--tls: %w", err)
		}
	}
	return api.NewClient(o)
}

// source returns the certificates for NATS: --tls with a certificate of one's own. nil = none.
func (r *remote) source() (*credential.Source, error) {
	files := strings.Split(cmp.Or(r.tls, os.Getenv("COUNTERPOINT_TLS")), ",")
	if len(files) != 3 {
		return nil, nil //nolint:nilnil // none is what there is
	}
	s, err := credential.Open(credential.Config{CA: files[0], Certificate: files[1], Key: files[2]}, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("--tls: %w", err)
	}
	return s, nil
}

// fetch asks one thing of the fleet. With --json the answer is printed as it came and v is nil; else it is decoded.
func fetch[T any](cmd *cobra.Command, r *remote, ask func(context.Context, *api.Client) ([]byte, error)) (v *T, err error) {
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	b, err := ask(cmd.Context(), c)
	if err != nil {
		return nil, err
	}
	if r.json {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b)
		return nil, err
	}
	v = new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("the coordinator's answer is not what this version reads: %w", err)
	}
	return v, nil
}

// oneRun wants the name of a run.
func oneRun(cmd *cobra.Command, args []string) error { return exactly("RUN")(cmd, args) }

// clientTLS makes the configuration of a client from a CA's file, and from a certificate and key of its own if there are
// any.
func clientTLS(files []string) (*tls.Config, error) {
	switch len(files) {
	case 1:
		chain, err := credential.ReadCertificates(files[0])
		if err != nil {
			return nil, err
		}
		c := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
		for _, certificate := range chain {
			c.RootCAs.AddCert(certificate)
		}
		return c, nil
	case 3:
		source, err := credential.Open(credential.Config{CA: files[0], Certificate: files[1], Key: files[2]}, nil, nil)
		if err != nil {
			return nil, err
		}
		return source.ClientConfig("", credential.Coordinator), nil
	}
	return nil, fmt.Errorf("%d files; CA.pem, or CA.pem,CERTIFICATE.pem,KEY is expected", len(files))
}

// status returns a run's coordinator.Status as JSON: over NATS from where workers join, or from the API. Without a name it
// is that of the only run that is not over, or of the newest.
func (r *remote) status(ctx context.Context, join, run string) ([]byte, error) {
	if join != "" {
		return r.ask(ctx, join, run)
	}
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	if run == "" {
		b, err := c.Runs(ctx)
		if err != nil {
			return nil, err
		}
		var list api.RunList
		if err := json.Unmarshal(b, &list); err != nil {
			return nil, fmt.Errorf("the coordinator's answer: %w", err)
		}
		var open []string
		for _, one := range list.Runs {
			if run = one.ID; one.State != string(wire.Finished) && one.State != string(wire.Cancelled) {
				open = append(open, one.ID)
			}
		}
		switch {
		case len(list.Runs) == 0:
			return nil, errors.New("the fleet has no runs")
		case len(open) > 1:
			return nil, fmt.Errorf("say which run: %s", strings.Join(open, ", "))
		case len(open) == 1:
			run = open[0]
		}
	}
	return c.Run(ctx, run)
}
