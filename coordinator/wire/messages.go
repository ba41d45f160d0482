// Package wire is the protocol between coordinators and workers: message types, subjects, version and codec.
// It knows neither NATS nor Raft. DESIGN.md tells how the messages make a step.
package wire

import (
	"time"

	"github.com/counterpoint-ml/counterpoint/data"
)

// Protocol versions that this build speaks. A hello carries the range; a rolling upgrade accepts the previous.
//
// Version 2 has many runs: a worker that is welcome may have none (Pulse.Idle) and changes runs without a new hello.
const (
	ProtocolMin = 1
	ProtocolMax = 2
)

// Hello is a worker's first request. The answer is a Welcome, or a Refusal that says why in plain words.
type Hello struct {
	Worker      string // chosen by the worker: name + random suffix, a fresh one for every Hello after an expiry
	Name        string // for people
	Connection  string // name of the worker's NATS connection: when it is gone, so is the worker
	ProtocolMin int
	ProtocolMax int
	Numerics    string // numerics id: kernel revision, instruction set or GPU model and library version
	Threads     int
	Version     string   // build of the binary, for logs
	Address     string   // host:port of the worker's direct listener; "" = reachable through NATS only
	Labels      []string // "key=value", such as "gpu=h200": what runs may ask for

	// Of a fleet with certificates: the worker's public nkey, its signature over who the worker is, and a join token, a
	// secret, which is needed until the key is admitted.
	Key       string
	Signature []byte
	Token     string
}

// Welcome answers Hello.
type Welcome struct {
	Refused        string // "" = welcome; else why not, naming what was found and what is allowed
	Protocol       int
	FailureTimeout time.Duration
	Run            *RunInfo // the run to work on; nil = none yet, keep beating
}

// RunInfo is what a worker needs to prepare for a run.
type RunInfo struct {
	ID       string
	Name     string
	Identity string // digest of model, data, loss, train and shard settings
	Spec     []byte // trainer.Config as JSON
	Store    string // checkpoint folder
	Numerics string // the run's numerics id, fixed by the first lease; "" = not yet
	Secret   Secret // with which workers of the run show each other that they are; nil = none: they talk over NATS only
}

// Beat is a heartbeat, sent every failure_timeout/5 as a request; the answer is a Pulse.
type Beat struct {
	Worker   string
	Run      string
	Revision int64 // newest Round.Revision that the worker has seen
	State    int64 // steps applied to the worker's parameters; -1 = none loaded yet
	// Parameters is the digest of those parameters. A follower takes part once State and Parameters are the
	// committed ones, so no worker contributes from a wrong state.
	Parameters string
	Size       int64 // trainable parameters P, for the owners' ranges; 0 = none loaded yet
	Busy       string
	TokensPS   float64 // measured speed, tokens a second
	// Missing are embedded shards of the round in flight whose Rows no other worker answered for. Where their
	// worker is gone they leave Round.Embedded, and the holder of their lease embeds them again.
	Missing []Range

	// Frozen is the digest of the frozen weights as they were loaded; "" = there are none, or nothing watches them.
	// Checked is the newest Round.Check for which they were hashed again and found the same (-1 = none yet), and Spoiled
	// names those that were not the same: all that this worker computed since is in doubt.
	Frozen  string
	Checked int64
	Spoiled string

	Paths  []Path  // how this worker takes values from the others
	Copied float64 // seconds that the newest copy of a peer's state took; 0 = none was made by this worker id
}

// Pulse answers a Beat. Known is false when the coordinator has expired the worker: it drops the round's sums and
// says Hello again under a fresh id. Its parameters stay good if their digest does.
type Pulse struct {
	Known bool
	Run   *RunInfo // set when the run differs from the Beat's
	Round *Round   // set when newer than the Beat's revision: a lost broadcast costs one beat
	Idle  bool     // the worker has no run: it leaves the Beat's, keeps what it has of it, and beats on
}

// Kind of a round.
type Kind uint8

// The kinds of a round.
const (
	Train    Kind = iota + 1 // a training step
	Evaluate                 // phase A over a suite's texts; one worker scores
)

// Round is the whole state of the work in flight, published on every change with a higher Revision. A worker
// compares it with what it has done and acts on the difference; it never needs the message before.
type Round struct {
	Run      string
	Revision int64 // strictly increasing within a run, across leaders; see Term
	Number   int64 // the round; strictly increasing
	Kind     Kind  // 0: no work in flight; Step, Members, Save and State hold all the same
	Step     int64 // Train: the step being executed. Evaluate: parameters after Step steps
	Suite    int   // Evaluate: index of the suite
	Shards   int
	Attempt  int32
	Maxima   []float32 // committed maxima that this attempt's exponents come from; nil = none
	Members  []Member  // active workers, in the order that they joined
	Leases   []Lease   // every shard of the round is in exactly one lease, for the phases not yet finished
	Embedded []Range   // shards whose embeddings have been reported
	Closing  *Closing  // nil until all shards are done, and again when a named worker is lost
	Scorer   string    // Evaluate: the worker that scores, named when all shards are embedded
	Commit   *Commit   // the newest committed step; this round is over when Commit.Round is its Number
	Save     *Save     // a checkpoint to write; repeated in every Round until its manifest is committed
	State    RunState
	Reason   string // why paused, failed or cancelled

	// Parameters is the committed digest of the parameters after Step steps; "" = the initial ones, not fixed yet.
	Parameters string
	// Resume is a checkpoint folder of the parameters after Step steps, "" = the initial parameters (pure in the
	// spec): for members that are Behind and have no Peer.
	Resume string
	Load   bool // members without a Peer load Resume now; false: they wait, a peer may turn up

	// Audited are the shards of a training round whose backward reports carry the digest of their rounded gradient, and
	// Audits the second computations that are wanted now: of the same gradient, for its digest alone.
	Audited []int32
	Audits  []Audit

	// Check asks every worker to hash its frozen weights again, when it rises: the newest step whose checkpoint was asked
	// for; -1 = none.
	Check int64
}

// Term numbers the leader's reign. A new leader has no reports: when the term changes, workers send again the
// Reports of the round's shards that they hold (this attempt), their Applied, Scored and Saved.
func (r *Round) Term() int64 { return r.Revision >> 32 }

// RunState is the state of a run.
type RunState string

// The states of a run. A run that is stopping finishes the step in flight first.
const (
	Running   RunState = "running"
	Stopping  RunState = "stopping"
	Paused    RunState = "paused"
	Failed    RunState = "failed"
	Cancelled RunState = "cancelled"
	Finished  RunState = "finished"
)

// Audit asks Worker to compute the gradient of Shard again. It reports the digest under phase trainer.Audit, and adds the
// gradient to nothing.
type Audit struct {
	Shard  int
	Worker string
}

// Member is a worker of the round.
type Member struct {
	Worker  string
	Address string
	Behind  bool   // a follower: copies state from Peer and applies totals, holds no leases yet
	Peer    string // "" = load Round.Resume
}

// Range is the shards [Lo, Hi).
type Range struct{ Lo, Hi int }

// Lease grants the shards of Range to a worker. Epoch is the lease epoch: a report under an older one is void.
type Lease struct {
	Range
	Worker string
	Epoch  int64
}

// Closing names one worker per shard (DESIGN 1.6). A worker sends exactly the sum over its named shards to the
// owners; owners drop sums of older closings.
type Closing struct {
	Number int32
	Cover  []Cover
	Owners []Owner
	// Complete: the owners already hold the whole total (they finished the step under an older closing) and
	// send their ranges at once, without contributions.
	Complete bool
	Maxima   []float32 // [tensors] the largest |g| of any shard of the step; the same in the step's Commit
	Loss     float64   // of a language-model objective: the shards' Report.Loss added in the order of shards; else 0
}

// Cover names the worker whose sum is over Shards.
type Cover struct {
	Worker string
	Shards []Range
}

// Owner reduces the parameters [Lo, Hi) and sends the totals to every member.
type Owner struct {
	Worker string
	Lo, Hi int64
}

// Commit is the record of a committed step.
type Commit struct {
	Round      int64
	Step       int64 // steps applied after this commit
	Closing    int32
	Attempt    int32
	Gradient   string // digest of the total
	Parameters string // tree hash of the trainable parameters and the optimizer's moments
	Loss       float64
	Norm       float64 // global L2 norm before clipping
	Rate       float64 // learning rate
	Maxima     []float32
	Tokens     int64
}

// Save asks Worker to write the checkpoint of Step, from a copy taken when its parameters were those after Step
// steps. Standby keeps its copy until the manifest is committed: it writes when it is named Worker.
type Save struct {
	Step    int64
	Worker  string
	Standby string
	Best    bool
}

// ShardRequest asks for a shard of a round; any coordinator that opened the data answers with a ShardReply.
type ShardRequest struct {
	Run    string
	Round  int64
	Kind   Kind
	Step   int64
	Suite  int
	Shards []int
}

// ShardReply carries whole shards, tokenised: workers need neither the data set nor the tokenizer.
type ShardReply struct {
	Err    string
	Shards []data.Shard
}

// HeaderRequest asks for the data.Header of a round.
type HeaderRequest struct {
	Run   string
	Round int64
	Kind  Kind
	Step  int64
	Suite int
}

// HeaderReply answers HeaderRequest.
type HeaderReply struct {
	Err    string
	Header data.Header
}

// Rows are embeddings of one shard, from the worker that computed it to all: [len(Slots), Width]. A shard whose
// rows do not fit one message (about 1 MiB) comes in several, each complete in itself.
type Rows struct {
	Run    string
	Round  int64
	Shard  int
	Worker string
	Texts  int // texts of the whole shard
	Width  int
	Slots  []int32
	Values []float32
	Digest string // of Slots and Values of this message
}

// RowsRequest asks the other workers for shards whose Rows were missed.
type RowsRequest struct {
	Run    string
	Round  int64
	Shards []int
	Reply  string // worker to send them to
}

// Report says that a worker finished a phase of a shard. The answer is a Verdict.
type Report struct {
	Run       string
	Round     int64
	Attempt   int32
	Phase     uint8 // trainer.Phase
	Worker    string
	Shard     int
	Epoch     int64 // lease epoch under which it was computed
	Maxima    []float32
	NonFinite bool
	Overflow  bool    // Backward: some tensor's maximum is beyond its bound under this attempt's exponents
	Loss      float64 // the shard's part of a language-model loss
	Tokens    int
	Seconds   float64
	Digest    string // Embed: digest of the rows, compared when a shard is embedded twice. Backward of an audited shard, and Audit: of its rounded gradient
	Rows      string // Audit: digest of the shard's rows as this worker computes them, as in Digest of Embed
}

// Verdict answers Report, Applied, Scored and Saved. Accepted is false when the lease is gone or another report came
// first. Retry: the coordinator is not the leader, or not yet; ask again.
type Verdict struct {
	Accepted bool
	Retry    bool
}

// Applied says that a worker has the total of a step and has updated its parameters. The answer is a Verdict.
type Applied struct {
	Run        string
	Round      int64
	Step       int64 // the step executed: Step+1 steps are applied now
	Closing    int32
	Attempt    int32
	Worker     string
	Gradient   string
	Parameters string
	Loss       float64
	Norm       float64
	Rate       float64
}

// Scored is a worker's result of an Evaluate round. The answer is a Verdict.
type Scored struct {
	Run     string
	Round   int64
	Step    int64
	Suite   int
	Worker  string
	Metrics map[string]float64
	Digest  string // of all embeddings
}

// Saved says that a checkpoint was written, or could not be. The answer is a Verdict.
type Saved struct {
	Run      string
	Step     int64
	Worker   string
	Path     string
	Manifest string // digest of the manifest
	Err      string
	Seconds  float64
}

// ChunkRequest asks another worker for a part of a large value: its sum under a closing, its total of a range, or a
// copy of its state. Large values are pulled: whoever needs one asks for parts of at most about 1 MiB, a window of
// them at a time, until it has them all. The window is the credit, and a lost part is asked for again.
type ChunkRequest struct {
	Run     string
	Stream  string // "sum", "total" or "state"
	From    string // the worker that asks
	Round   int64
	Attempt int32  // sum, total: of the attempt
	Closing int32  // sum: over exactly the shards that this closing names. total: of any closing of the attempt
	Key     string // state: which copy, from the first part's answer; "" = a fresh one
	Lo, Hi  int64  // sum, total: parameters [Lo, Hi). state: bytes [Lo, Hi)
}

// Chunk answers ChunkRequest.
type Chunk struct {
	Err     string // why the part will not come from here; the asker looks at the newest Round and tries again
	Later   bool   // not yet: ask again
	Key     string // state: which copy
	Size    int64  // state: bytes of the whole copy
	Payload []byte
	Digest  string // of the payload
}

// FileRequest asks a coordinator for a part of a file: "model/NAME" of the run's model folder,
// "checkpoints/FOLDER/NAME" of the store, or "suite/INDEX", the queries, documents and judgements of a suite as JSON.
type FileRequest struct {
	Run    string
	Name   string // ending in "/": lists that folder's files as JSON, an array of {"name", "size", "digest"} (SHA-256, hex)
	Offset int64
	Limit  int
}

// FileReply answers FileRequest.
type FileReply struct {
	Err     string
	Size    int64
	Payload []byte
}

// Log is a line of a worker's or coordinator's log, published for `counterpoint logs`.
type Log struct {
	Time   time.Time
	Source string
	Level  string
	Text   string
	Run    string // the run that it is about; "" = of no run in particular
}

// Leave says that a worker drains: it finishes what it holds and takes nothing new.
type Leave struct {
	Worker string
	Reason string
}

// Control steers a run from outside. It may be repeated: what is so already is no error. The answer is a ControlReply.
type Control struct {
	Run      string // id or name; "" = the only one that is not over
	Action   string // ActionPause, ActionResume, ActionCancel or ActionPriority
	Reason   string
	Priority int // ActionPriority: the new one
}

// The actions of Control.
const (
	ActionPause    = "pause"    // finish the step in flight, write a checkpoint, free the workers
	ActionResume   = "resume"   // go on: from a pause, or after a failure
	ActionCancel   = "cancel"   // end for good
	ActionPriority = "priority" // a run of a higher priority takes workers from others at the end of their round
)

// ControlReply answers Control with the state after it.
type ControlReply struct {
	Err   string
	State RunState
	Run   string // the id of the run that was meant
}

// SubmitRequest adds a run. The answer is a SubmitReply; whoever hears none, or one with Preparing, asks again with the
// same Key, of any coordinator, and the run is added once.
type SubmitRequest struct {
	Key      string // chosen by the one who submits, 1 to 64 characters as CheckName has them
	File     []byte // the run file: resolved, as YAML, with absolute paths
	Priority int
}

// SubmitReply answers SubmitRequest.
type SubmitReply struct {
	Run       string // id; "" while Preparing and with Err
	Err       string // why the run is refused, for people
	Existing  bool   // the run was there before: of this key, or of this name with the same settings
	Preparing bool   // its data are being read: ask again
}

// RunsRequest asks for all runs and workers.
type RunsRequest struct{}

// RunsReply carries coordinator.Overview as JSON.
type RunsReply struct{ JSON []byte }

// StatusRequest asks for the status of a run.
type StatusRequest struct {
	Run string // id or name; "" = the only one that is not over, or the newest
}

// StatusReply carries coordinator.Status as JSON.
type StatusReply struct {
	JSON []byte
	Err  string // there is no such run
}

// LogsRequest asks for the newest lines that the fleet published on LogSubject.
type LogsRequest struct{ Lines int }

// LogsReply answers LogsRequest, oldest first.
type LogsReply struct{ Lines []Log }

// RunEvent is an event of a run: the leader publishes it on EventSubject when it happens, and every coordinator keeps the
// newest, so that the next leader can tell them again.
type RunEvent struct {
	ID   int64 // strictly increasing, across leaders: the term in the upper half, a count in the lower
	Run  string
	JSON []byte // coordinator.Event
}

// EventsRequest asks the leader for the events of a run after an id, oldest first, at most Limit of them.
type EventsRequest struct {
	Run   string // "" = of all runs
	After int64
	Limit int
}

// EventsReply answers EventsRequest.
type EventsReply struct {
	Events []RunEvent
	More   bool  // there are more than Limit
	Gone   int64 // the newest id that is no longer kept; 0 = all are
}
