// Package coordinator is one node's life: leadership, publishing what was committed, accepting reports.
package coordinator

import (
	"fmt"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/credential"
)

// Config is cluster: in the YAML. None of it belongs to a run's identity.
type Config struct {
	Workers        int           `yaml:"workers,omitempty" json:"workers,omitempty"`                 // local workers that `train` starts
	FailureTimeout time.Duration `yaml:"failure_timeout,omitempty" json:"failure_timeout,omitempty"` // the one knob; default 1s
	Listen         string        `yaml:"listen,omitempty" json:"listen,omitempty"`                   // NATS address of the embedded server; default 127.0.0.1:0 in train, :4222 in coordinator
	API            string        `yaml:"api,omitempty" json:"api,omitempty"`                         // address of the HTTP API; default 127.0.0.1:8300 in coordinator, none in train; "none" = none
	Tokens         string        `yaml:"tokens,omitempty" json:"tokens,omitempty"`                   // file of the API's bearer tokens
	Mixed          bool          `yaml:"mixed,omitempty" json:"mixed,omitempty"`                     // accept workers of several numerics ids
	Audit          string        `yaml:"audit,omitempty" json:"audit,omitempty"`                     // share of the shards that two workers compute: "1/64"
	Kernels        string        `yaml:"kernels,omitempty" json:"kernels,omitempty"`                 // avx512 | avx2 | portable; "" = the best of the first worker
	Threads        int           `yaml:"threads,omitempty" json:"threads,omitempty"`                 // per worker; 0 = cores / local workers
	Coordinators   []Coordinator `yaml:"coordinators,omitempty" json:"coordinators,omitempty"`       // 1, 3 or 5, the same list for all; none = this one alone
	NATS           NATS          `yaml:"nats,omitempty" json:"nats"`                                 // the user's own NATS servers
	Store          string        `yaml:"store,omitempty" json:"store,omitempty"`                     // of the Raft log: wal (default) or bolt

	TLS      *credential.Config `yaml:"tls,omitempty" json:"tls,omitempty"`           // certificates; needed outside loopback
	Admit    string             `yaml:"admit,omitempty" json:"admit,omitempty"`       // how a worker's key comes in: token (default) or certificate
	Insecure bool               `yaml:"insecure,omitempty" json:"insecure,omitempty"` // listen outside loopback without TLS

	// What a run asks of the workers that it is given.
	Labels     []string `yaml:"labels,omitempty" json:"labels,omitempty"`           // that a worker must have, all of them
	WorkersMin int      `yaml:"workers_min,omitempty" json:"workers_min,omitempty"` // it works only while it has as many; 0 = 1
	WorkersMax int      `yaml:"workers_max,omitempty" json:"workers_max,omitempty"` // 0 = all that match
}

// listens returns the addresses that the coordinator of that name listens on, by their keys.
func (c *Config) listens(name string) map[string]string {
	all := map[string]string{"cluster.listen": c.Listen}
	for i, one := range c.Coordinators {
		if one.Name != name {
			continue
		}
		at := fmt.Sprintf("cluster.coordinators[%d].", i)
		all[at+"raft"] = one.Raft
		if c.NATS.URL == "" {
			all[at+"nats"], all[at+"route"] = one.NATS, one.Route
		}
	}
	return all
}
