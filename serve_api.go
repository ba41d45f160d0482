package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"

	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/api"
	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// noAPI as cluster.api says that there is to be none.
const noAPI = "none"

// apiServer is the HTTP API beside a node, which does not know of it: it asks whoever leads over the bus.
type apiServer struct {
	server *api.Server
	conn   *bus.Conn
	stop   context.CancelFunc
	ended  chan error
}

// serveAPI serves the API of a node's fleet at listen. An empty listen is the usual address, which another coordinator of
// this machine may have taken: then there is none, and notices says so.
func serveAPI(ctx context.Context, node *coordinator.Node, listen, name string, config *configs.Config, notices io.Writer, log *slog.Logger) (*apiServer, error) {
	usual := listen == ""
	if usual {
		listen = strings.TrimPrefix(api.DefaultServer, "http://")
	}
	if name == "" {
		name = "coordinator"
	}
	o := api.Options{
		Listen: listen, Coordinator: name, Version: version, FailureTimeout: config.Cluster.FailureTimeout,
		TLS: node.Source(), Insecure: config.Cluster.Insecure, Refusals: node.Refusals(), Log: log,
	}
	var err error
	if file := config.Cluster.Tokens; file != "" {
		if o.Tokens, err = credential.OpenBearers(file); err != nil {
			return nil, fmt.Errorf("cluster.tokens: %w", err)
		}
	}
	if o.Conn, err = bus.Connect(ctx, bus.Options{Server: node.Server(), URL: config.Cluster.NATS.URL, Name: connectionName("api"), FailureTimeout: o.FailureTimeout, Log: log}); err != nil {
		return nil, err
	}
	s := &apiServer{conn: o.Conn, ended: make(chan error, 1)}
	if s.server, err = api.Open(ctx, o); err != nil {
		o.Conn.Close()
		if usual && errors.Is(err, syscall.EADDRINUSE) {
			fmt.Fprintf(notices, "%s is taken, so this coordinator has no HTTP API; cluster.api gives it another address\n", listen)
			return nil, nil //nolint:nilnil // none is what there is
		}
		return nil, err
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() { s.ended <- s.server.Run(ctx) }()
	return s, nil
}

// close ends the server; there may be none.
func (s *apiServer) close() error {
	if s == nil {
		return nil
	}
	s.stop()
	err := <-s.ended
	s.conn.Close()
	return err
}

// serverFlag is what a command line needs to find a server.
func serverFlag(url string) string {
	if url == api.DefaultServer {
		return ""
	}
	return " --server " + url
}
