package coordinator

import (
	"context"
	"log/slog"

	"github.com/counterpoint-ml/counterpoint/coordinator/consensus"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/data"
)

// Feed serves a run's global batches. All of it is pure in the run's data and order; methods are called from many
// goroutines at once.
type Feed interface {
	// Header returns the header of a step's batch. Its Tokens give the number of shards and their lengths.
	Header(step int64) (data.Header, error)
	// Shards returns the shards of those indices, tokenised, in the order asked for.
	Shards(step int64, indices []int) ([]data.Shard, error)
	// Digest is the data digest: of the rows, their order and their tokens' lengths.
	Digest() string
}

// Suites serves the evaluation sets; methods are called from many goroutines at once.
type Suites interface {
	// Names returns the suites' names, in the order of their indices.
	Names() []string
	// Header returns the header of a suite's texts: Slots and Tokens are set.
	Header(suite int) (data.Header, error)
	// Shards is Feed.Shards of a suite.
	Shards(suite int, indices []int) ([]data.Shard, error)
	// Describe returns query ids, document ids and judgements as JSON, in slot order: what the scorer needs.
	Describe(suite int) ([]byte, error)
}

// Store is the coordinator's view of the checkpoint folder; workers write it. Paths are those of Saved.Path.
type Store interface {
	// Verify reads the checkpoint and returns an error that names what is wrong with it.
	Verify(path, digest string) error
	// Remove removes a checkpoint whose manifest was dropped.
	Remove(path string) error
}

// Submission is a run as it is submitted, or resumed.
type Submission struct {
	Name     string
	Identity string   // digest of model, data, loss, train and shard settings
	Identify []byte   // those settings as JSON: shows what differs when a resume is refused
	Spec     []byte   // trainer.Config as JSON, for the workers
	Folder   string   // checkpoint folder, absolute
	Model    string   // model folder, absolute; "" for a preset
	Adapters []string // folders of adapters that go with the model, absolute, in the order in which Spec names them
	Steps    int64
	Settings fsm.Settings // may differ at every resume; Suites are taken from Suites.Names
}

// Hosted is a run that this process can lead: its data, suites and store are open.
type Hosted struct {
	Submission
	Feed   Feed
	Suites Suites // nil = none
	Store  Store
	// Kernels that the run asks of processors while its numerics are not fixed; "" = any.
	Kernels string
	Dir     string // folder of its events.jsonl; "" = runs/ID in the coordinator's own
	// File is the run file with everything in it that another coordinator needs to host the same run: absolute paths,
	// the checkpoint folder. nil = as it was given.
	File  []byte
	Close func() error // nil = nothing to close
}

// Options configure a Node.
type Options struct {
	Dir     string // the coordinator's own folder: Raft log, owner, events.jsonl
	Name    string // which of Cluster.Coordinators this is; "" = it is alone
	Cluster Config
	// Run, Feed, Suites and Store are the node's own run, with which Run ends. Without a Feed it has none: it hosts
	// what is submitted, until its context ends.
	Run     Submission
	Feed    Feed
	Suites  Suites // nil = none
	Store   Store
	Log     *slog.Logger // nil = none; lines of level Info and above also go to `counterpoint logs`
	Version string       // of the binary, for the owner file and status

	// Host opens a run from its file, as it was submitted or as the log has it. It may take minutes. nil = runs cannot
	// be submitted, and only Run is led.
	Host func(ctx context.Context, file []byte) (*Hosted, error)

	// Resume continues a run that was paused or has failed. A run that was running when the process died is
	// continued in any case.
	Resume bool
	// Alone says that no worker of an earlier life of this folder can be alive (they were goroutines of the
	// dead process): nobody waits for them.
	Alone bool
	// File is the own run's file, so that other coordinators can host it; nil = each is started with it.
	File []byte
	// Stay keeps leading while the own run is paused; with Host, when it is over too. Otherwise Run returns.
	Stay bool
	// Bus connects to the message bus in place of an embedded server; nil = embed one. disconnected is to be called with
	// the name of every connection of the bus that ends. The node closes the connection.
	Bus func(disconnected func(name, reason string)) (*bus.Conn, error)
	// Consensus changes how the log is replicated: who the group is, its disk, its network. nil = a folder, alone.
	Consensus func(*consensus.Options)
	// Tap is told of what this node proposes and applies; nil = nobody. For simulations.
	Tap Tap
	// Events is told of everything that happened, in order, from one goroutine; it must be quick. May be nil.
	Events func(Event)
}

// Tap looks at a node's part of the log.
type Tap interface {
	// Propose is called before an entry is proposed, and what it returns with what came of it.
	Propose(entry []byte) (done func(err error))
	// Applied is called after every entry that is applied, with the state after it; err is what the state machine said.
	Applied(entry []byte, after *fsm.State, err error)
}
