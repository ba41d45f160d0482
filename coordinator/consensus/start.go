package consensus

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// keyID is where a member of a group keeps its id in the stable store.
var keyID = []byte("counterpoint/id")

// config returns Raft's configuration. TrailingLogs reaches back beyond the snapshot before the newest, as a rule, so
// that one which cannot be read is no loss.
func (n *Node) config(notify chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.id)
	c.Logger = n.hc
	c.NotifyCh = notify
	c.SnapshotThreshold, c.TrailingLogs = 4096, 16384
	c.NoLegacyTelemetry = true
	c.ShutdownOnRemove = false
	return c
}

// startAlone starts the only member of a group of one, which waits for nobody: it elects itself after the shortest
// timeout.
func (n *Node) startAlone() error {
	if id, _ := n.stores.Stable.Get(keyID); len(id) > 0 { // "not found" is no id either
		return fmt.Errorf("the log belongs to %s of a group of coordinators: cluster.coordinators is needed", id)
	}
	n.id = n.o.Name
	address, transport := raft.NewInmemTransport(raft.ServerAddress(n.id))
	group := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(n.id), Address: address}}}
	notify := make(chan bool, 8)
	c := n.config(notify)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	c.CommitTimeout = 5 * time.Millisecond
	return n.start(c, notify, n.stores.Log, transport, &group)
}

// startGroup starts a member that has a log, or the search for how to begin one.
func (n *Node) startGroup() error {
	has, err := raft.HasExistingState(n.stores.Log, n.stores.Stable, n.stores.Snapshots)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	id, _ := n.stores.Stable.Get(keyID) // "not found" is no id
	switch {
	case len(id) > 0:
		if name := nameOf(string(id)); name != n.o.Name {
			return fmt.Errorf("the log belongs to %s, this is %s", name, n.o.Name)
		}
		n.id = string(id)
		if !has && n.id == n.o.Name {
			break // died between choosing to found and founding: ask again
		}
		if err := n.startMember(nil); err != nil {
			return err
		}
		n.routines.Go(n.run)
		return nil
	case has:
		return errors.New("the log belongs to a coordinator alone: it cannot become a group's; begin a new folder, which resumes from the newest checkpoint")
	}
	n.routines.Go(func() {
		if err := n.begin(); err != nil {
			n.fail(fmt.Errorf("begin the log of %s: %w", n.o.Name, err))
			return
		}
		if n.up() {
			n.run()
		}
	})
	return nil
}

// nameOf returns the name of an id.
func nameOf(id string) string {
	name, _, _ := strings.Cut(id, "#")
	return name
}

// begin asks the other members whether there is a group. It founds one only when every member has answered and none
// knows of an entry beyond the founding one; a group that exists is joined, under an id that never voted: what this
// member may have promised before its folder was lost is not known any more.
func (n *Node) begin() error {
	told := time.Now()
	for {
		var missing []string
		joins := false
		for _, s := range n.o.Servers {
			if s.Name == n.o.Name {
				continue
			}
			a, err := n.ask(s.Address, n.report())
			switch {
			case err != nil:
				missing = append(missing, s.Name)
			case a.Last > 1 || a.Term > 1:
				joins = true
			case !slices.Equal(a.Group, n.group()):
				return fmt.Errorf("%s was started with coordinators %v, this is %v: the first start needs the same list everywhere", s.Name, a.Group, n.group())
			}
		}
		if joins || len(missing) == 0 {
			n.id = n.o.Name
			var group *raft.Configuration
			if joins {
				n.id += "#" + strings.ToLower(rand.Text()[:8])
			} else {
				group = &raft.Configuration{}
				for _, s := range sorted(n.o.Servers) {
					group.Servers = append(group.Servers, raft.Server{ID: raft.ServerID(s.Name), Address: raft.ServerAddress(s.Address)})
				}
			}
			if err := n.stores.Stable.Set(keyID, []byte(n.id)); err != nil {
				return err
			}
			n.log.Info("coordinator begins", "name", n.o.Name, "id", n.id, "joins", joins)
			return n.startMember(group)
		}
		if time.Since(told) > 5*n.timers.Failure {
			told = time.Now()
			n.log.Warn("the first start of coordinators needs all of them", "waiting for", strings.Join(missing, ", "))
		}
		select {
		case <-time.After(n.timers.Report / 4):
		case <-n.done:
			return nil
		}
	}
}

func sorted(servers []Server) []Server {
	return slices.SortedFunc(slices.Values(servers), func(a, b Server) int { return strings.Compare(a.Name, b.Name) })
}

// group returns the configured group, for comparison.
func (n *Node) group() (out []string) {
	for _, s := range sorted(n.o.Servers) {
		out = append(out, s.Name+" "+s.Address)
	}
	return out
}

// startMember starts Raft over the transport; group is what to found, or nil.
func (n *Node) startMember(group *raft.Configuration) error {
	notify := make(chan bool, 8)
	c := n.config(notify)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = n.timers.Heartbeat, n.timers.Election, n.timers.Lease
	c.CommitTimeout = n.timers.Commit
	return n.start(c, notify, n.checked, &mutable{n.transport, n.silent.Load}, group)
}

// start starts Raft, after founding the group if there is no log yet.
func (n *Node) start(c *raft.Config, notify <-chan bool, log raft.LogStore, transport raft.Transport, group *raft.Configuration) (err error) {
	defer func() {
		if r := recover(); r != nil { // Raft's way to say that an entry cannot be read
			err = fmt.Errorf("read the log: %v", r)
		}
	}()
	n.watched, n.votes = newWatched(log, n.fail), &votes{StableStore: n.stores.Stable, halt: n.fail}
	cache, err := raft.NewLogCache(512, n.watched)
	if err != nil {
		return err
	}
	if err := n.gapless(); err != nil {
		return err
	}
	has, err := raft.HasExistingState(cache, n.votes, n.stores.Snapshots)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if !has && group != nil {
		if err := raft.BootstrapCluster(c, cache, n.votes, n.stores.Snapshots, transport, *group); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	if n.raft, err = raft.NewRaft(c, n.adapter, cache, n.votes, n.stores.Snapshots, transport); err != nil {
		return err
	}
	n.watched.ready.Store(true)
	n.votes.ready.Store(true)
	close(n.started)
	n.routines.Go(func() { n.drain(notify) })
	return nil
}

// gapless checks that the log goes on where a snapshot that can be opened ends: Raft would find out too late to say so.
func (n *Node) gapless() error {
	list, err := n.stores.Snapshots.List()
	if err != nil || len(list) == 0 {
		return err
	}
	first, err := n.stores.Log.FirstIndex()
	if err != nil {
		return err
	}
	var faults []error
	for _, meta := range list { // the newest first
		_, r, err := n.stores.Snapshots.Open(meta.ID)
		if err != nil {
			faults = append(faults, fmt.Errorf("snapshot %s: %w", meta.ID, err))
			continue
		}
		if err := r.Close(); err != nil {
			return err
		}
		if len(faults) > 0 && (first == 0 || first > meta.Index+1) {
			return fmt.Errorf("%w; the one before, %s, ends at entry %d and the log begins at %d", errors.Join(faults...), meta.ID, meta.Index, first)
		}
		for _, f := range faults {
			n.log.Error("a snapshot cannot be read; the one before is used", "error", f)
		}
		return nil
	}
	return fmt.Errorf("no snapshot can be read: %w", errors.Join(faults...))
}

// ask sends a member's report to an address.
func (n *Node) ask(address string, r report) (answer, error) {
	var a answer
	b, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.timers.RPC)
	defer cancel()
	if b, err = n.transport.Ask(ctx, address, b); err != nil {
		return a, err
	}
	return a, json.Unmarshal(b, &a)
}
