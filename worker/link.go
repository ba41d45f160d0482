package worker

import (
	"context"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// Link is what an agent needs of the network: requests to the coordinators, and values between workers. Requests
// return an error when no answer came before ctx ended; the agent then asks again. A Link reconnects by itself, for
// ever. Messages that it hands over belong to the agent, and messages that it is given are not kept.
type Link interface {
	Hello(ctx context.Context, m *wire.Hello) (*wire.Welcome, error)
	Beat(ctx context.Context, m *wire.Beat) (*wire.Pulse, error)
	Leave(ctx context.Context, m *wire.Leave) error
	Header(ctx context.Context, m *wire.HeaderRequest) (*wire.HeaderReply, error)
	Shards(ctx context.Context, m *wire.ShardRequest) (*wire.ShardReply, error)
	File(ctx context.Context, m *wire.FileRequest) (*wire.FileReply, error)
	Report(ctx context.Context, m *wire.Report) (*wire.Verdict, error)
	Applied(ctx context.Context, m *wire.Applied) (*wire.Verdict, error)
	Scored(ctx context.Context, m *wire.Scored) (*wire.Verdict, error)
	Saved(ctx context.Context, m *wire.Saved) (*wire.Verdict, error)

	// Publish sends rows to all workers of the run; Send to the one that asked for them; AskRows asks all.
	Publish(ctx context.Context, m *wire.Rows) error
	Send(ctx context.Context, to string, m *wire.Rows) error
	AskRows(ctx context.Context, m *wire.RowsRequest) error

	// Ask takes a question for a part of a large value to another worker of the run.
	Ask(ctx context.Context, worker string, m *wire.ChunkRequest) (*wire.Chunk, error)

	// Attend calls h's functions for what arrives for a worker of a run, until stop is called. Rounds and rows come in
	// the order in which their sender sent them; AskRows and Chunk may be slow and are called concurrently. stop waits
	// for those two.
	Attend(run, worker string, h Handlers) (stop func(), err error)
}

// Handlers take what arrives for a worker.
type Handlers struct {
	Round   func(*wire.Round)
	Rows    func(*wire.Rows)
	AskRows func(context.Context, *wire.RowsRequest)
	Chunk   func(context.Context, *wire.ChunkRequest) *wire.Chunk
}

// Trainer is what an agent drives; *trainer.Trainer is one. Only one goroutine calls it, but for State, which may run
// beside a Step that has not its total yet, and beside Embed and Digest.
type Trainer interface {
	Step(ctx context.Context, header data.Header, step int64, fleet trainer.Fleet) (trainer.Outcome, error)
	Apply(header data.Header, step int64, total *fixed.Sum, loss float64, maxima []float32, attempt int32) (trainer.Outcome, error)
	Embed(shard *data.Shard) ([]float32, error)
	Width() int
	Size() int
	Steps() int64
	State() trainer.State
	Restore(s trainer.State) error
	Digest() string
}

var _ Trainer = (*trainer.Trainer)(nil)

// Keeper is a Trainer with frozen weights that can be hashed while it computes: CheckFrozen may be called by another
// goroutine at any time.
type Keeper interface {
	FrozenDigest() string // as they were loaded; "" = there are none
	CheckFrozen(ctx context.Context) error
}

var _ Keeper = (*trainer.Trainer)(nil)
