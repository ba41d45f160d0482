package consensus

import (
	"context"

	"github.com/hashicorp/raft"
)

// Transport carries a group's messages: Raft's, and the questions of members to each other (Ask). NewTCP makes the real
// ones, Network those of simulations.
type Transport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
	// Ask sends a question to whoever is at the address and returns the answer.
	Ask(ctx context.Context, address string, question []byte) ([]byte, error)
	// Answer sets who answers questions. It is called once, before anything else.
	Answer(func(question []byte) []byte)
}

// maxQuestion bounds a question and an answer, in bytes.
const maxQuestion = 4 << 10

// mutable is a transport that can fall silent: what a leader with a stuck disk does, for its heartbeats would keep
// others from leading while it commits nothing.
type mutable struct {
	Transport
	muted func() bool
}

// errMuted is what Raft sees of a muted transport.
var errMuted = errorString("silent, so that another may lead")

type errorString string

func (e errorString) Error() string { return string(e) }

func (t *mutable) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	if t.muted() {
		return errMuted
	}
	return t.Transport.AppendEntries(id, to, q, r)
}

func (t *mutable) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if t.muted() {
		return nil, errMuted
	}
	p, err := t.Transport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return &mutablePipeline{p, t.muted}, nil
}

type mutablePipeline struct {
	raft.AppendPipeline
	muted func() bool
}

func (p *mutablePipeline) AppendEntries(q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.muted() {
		return nil, errMuted
	}
	return p.AppendPipeline.AppendEntries(q, r)
}
