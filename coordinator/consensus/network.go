package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Network connects the members of simulations in memory. It uses no goroutine of its own and no clock but time's, so it
// runs under testing/synctest.
type Network struct {
	mu      sync.Mutex
	timeout time.Duration
	members map[string]*memoryTransport
	faults  func(from, to string) (time.Duration, error)
}

// NewNetwork returns a network on which a message without an answer is given up after timeout.
func NewNetwork(timeout time.Duration) *Network {
	return &Network{timeout: timeout, members: map[string]*memoryTransport{}}
}

// Faults sets what happens to each message from one address to another, answers included: it arrives after the delay,
// or never, if there is an error. nil is no fault.
func (w *Network) Faults(f func(from, to string) (time.Duration, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = f
}

// Join returns the transport of whoever is at the address from now on. The one before is dead.
func (w *Network) Join(address string) Transport {
	t := &memoryTransport{network: w, address: address, consumer: make(chan raft.RPC, 16), closed: make(chan struct{})}
	w.mu.Lock()
	old := w.members[address]
	w.members[address] = t
	w.mu.Unlock()
	if old != nil {
		_ = old.Close() // never an error
	}
	return t
}

// ErrLost is what the sender of a lost message sees, after the network's timeout.
var ErrLost = errors.New("no answer")

type memoryTransport struct {
	network  *Network
	address  string
	consumer chan raft.RPC
	answer   atomic.Pointer[func([]byte) []byte]
	once     sync.Once
	closed   chan struct{}
}

// travel waits until a message has arrived, or tells that it was lost.
func (t *memoryTransport) travel(from, to string) (*memoryTransport, error) {
	w := t.network
	w.mu.Lock()
	peer, faults := w.members[to], w.faults
	w.mu.Unlock()
	if faults != nil {
		delay, err := faults(from, to)
		if err != nil {
			return nil, t.lost(from, to, err)
		}
		if delay > 0 {
			time.Sleep(delay)
		}
	}
	if peer == nil {
		return nil, fmt.Errorf("nobody is at %s", to)
	}
	return peer, nil
}

func (t *memoryTransport) lost(from, to string, cause error) error {
	select {
	case <-time.After(t.network.timeout):
	case <-t.closed:
	}
	return fmt.Errorf("%s to %s: %w: %w", from, to, ErrLost, cause)
}

// call sends a message of Raft and waits for the answer.
func (t *memoryTransport) call(to raft.ServerAddress, q any, r io.Reader) (any, error) {
	peer, err := t.travel(t.address, string(to))
	if err != nil {
		return nil, err
	}
	answer := make(chan raft.RPCResponse, 1)
	late := time.NewTimer(t.network.timeout)
	defer late.Stop()
	select {
	case peer.consumer <- raft.RPC{Command: q, Reader: r, RespChan: answer}:
	case <-peer.closed:
		return nil, fmt.Errorf("nobody is at %s any more", to)
	case <-t.closed:
		return nil, raft.ErrTransportShutdown
	case <-late.C:
		return nil, fmt.Errorf("%s to %s: %w", t.address, to, ErrLost)
	}
	select {
	case a := <-answer:
		if _, err := t.travel(string(to), t.address); err != nil {
			return nil, err
		}
		return a.Response, a.Error
	case <-peer.closed:
		return nil, fmt.Errorf("nobody is at %s any more", to)
	case <-t.closed:
		return nil, raft.ErrTransportShutdown
	case <-late.C:
		return nil, fmt.Errorf("%s to %s: %w", t.address, to, ErrLost)
	}
}

// ask calls and copies the answer to where Raft wants it.
func ask[R any](t *memoryTransport, to raft.ServerAddress, q any, r io.Reader, into *R) error {
	a, err := t.call(to, q, r)
	if err != nil {
		return err
	}
	*into = *a.(*R)
	return nil
}

func (t *memoryTransport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	apart := *q // the follower must not see the leader's memory
	apart.Entries = make([]*raft.Log, len(q.Entries))
	for i, e := range q.Entries {
		entry := *e
		apart.Entries[i] = &entry
	}
	return ask(t, to, &apart, nil, r)
}

func (t *memoryTransport) RequestVote(_ raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, r *raft.RequestVoteResponse) error {
	return ask(t, to, q, nil, r)
}

func (t *memoryTransport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	return ask(t, to, q, nil, r)
}

func (t *memoryTransport) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest, r *raft.InstallSnapshotResponse, data io.Reader) error {
	return ask(t, to, q, data, r)
}

func (t *memoryTransport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, q *raft.TimeoutNowRequest, r *raft.TimeoutNowResponse) error {
	return ask(t, to, q, nil, r)
}

// AppendEntriesPipeline says that there is none: each message then meets its own fate.
func (t *memoryTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (t *memoryTransport) Consumer() <-chan raft.RPC { return t.consumer }

func (t *memoryTransport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.address) }

func (t *memoryTransport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

func (t *memoryTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }
func (t *memoryTransport) SetHeartbeatHandler(func(raft.RPC))     {}
func (t *memoryTransport) Answer(f func([]byte) []byte)           { t.answer.Store(&f) }

func (t *memoryTransport) Ask(_ context.Context, to string, q []byte) ([]byte, error) {
	peer, err := t.travel(t.address, to)
	if err != nil {
		return nil, err
	}
	select {
	case <-peer.closed:
		return nil, fmt.Errorf("nobody is at %s any more", to)
	default:
	}
	answer := peer.answer.Load()
	if answer == nil {
		return nil, fmt.Errorf("%s does not answer yet", to)
	}
	a := (*answer)(q)
	if _, err := t.travel(to, t.address); err != nil {
		return nil, err
	}
	return a, nil
}

func (t *memoryTransport) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}
