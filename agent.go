package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/checkpoints/object"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
	"github.com/counterpoint-ml/counterpoint/worker"
	"github.com/counterpoint-ml/counterpoint/worker/direct"
)

// crew is what the workers of one process share: the frozen weights of their runs' models.
type crew struct {
	threads int // of each worker
	keep    int64
	log     *slog.Logger
	labels  []string
	stores  *stores
	hub     *worker.Hub  // they read each other's values where they are
	direct  *direct.Node // other processes' workers connect to it; nil = none do
	address string       // where

	mu     sync.Mutex
	bases  map[string]*opened          // by run identity
	params map[string][]backbone.Param // likewise: what trains
}

func newCrew(threads int, keep int64, log *slog.Logger) *crew {
	return &crew{threads: max(threads, 1), keep: keep, log: log, stores: newStores(log), hub: worker.NewHub(), bases: map[string]*opened{}, params: map[string][]backbone.Param{}}
}

// opened is a run's model as it is on this machine.
type opened struct {
	base  *backbone.Base
	model backbone.Config
	users int       // trainers
	used  time.Time // when the last of them went
}

// spare is how many models stay open that no worker of this process trains: those of runs that its workers were taken
// from, and may come back to.
const spare = 1

// trains is a trainer that counts as a user of its model.
type trains struct {
	*trainer.Trainer
	free func()
}

// Free gives the trainer's memory back.
func (t *trains) Free() {
	t.Trainer.Free()
	t.free()
}

// member is one worker of a crew: an agent on a device and a connection of its own.
type member struct {
	agent *worker.Agent
	dev   *cpu.Device
	conn  *bus.Conn
}

// member connects a worker. It says hello when it runs.
func (c *crew) member(ctx context.Context, name string, o bus.Options, adapt func(*worker.Config)) (*member, error) {
	o.Name, o.Log = connectionName(name), c.log
	conn, err := bus.Connect(ctx, o)
	if err != nil {
		return nil, err
	}
	dev, err := cpu.New(c.threads)
	if err != nil {
		conn.Close()
		return nil, err
	}
	config := worker.Config{
		Name: name, Connection: o.Name, Numerics: dev.Numerics(), Version: version, Threads: c.threads, Labels: c.labels,
		Link: worker.NewLink(conn), Hub: c.hub, Direct: c.direct, Address: c.address, Log: slog.New(bus.NewLogHandler(conn, name, c.log.Handler())).With("worker", name),
		Build: func(ctx context.Context, run worker.Run) (worker.Trainer, error) { return c.build(ctx, run, dev) },
		Load:  c.load,
		Write: c.write,
		Score: score,
	}
	adapt(&config)
	agent, err := worker.New(config)
	if err != nil {
		dev.Close()
		conn.Close()
		return nil, err
	}
	return &member{agent, dev, conn}, nil
}

// run works until the context ends or the agent is done, and gives everything back.
func (m *member) run(ctx context.Context) error {
	defer m.dev.Close()
	defer m.conn.Close()
	return m.agent.Run(ctx)
}

// base opens the run's model once in this process; folders that are not on this machine come from the coordinator, and
// spec then names where they are here.
func (c *crew) base(ctx context.Context, run worker.Run) (*backbone.Base, runSpec, error) {
	spec, err := decodeSpec(run.Spec)
	if err != nil {
		return nil, spec, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.bases[run.Identity]; ok {
		spec.Trainer.Model = o.model
		return o.base, spec, nil
	}
	folder := func(name string) (string, error) { return run.Files.Folder(ctx, name, training...) }
	if err := fetchModel(folder, &spec); err != nil {
		return nil, spec, err
	}
	b, err := backbone.Load(spec.Trainer.Model, spec.Trainer.Seed)
	if err != nil {
		return nil, spec, err
	}
	b.Watch()
	c.evict()
	c.bases[run.Identity] = &opened{base: b, model: spec.Trainer.Model, used: time.Now()}
	return b, spec, nil
}

// evict forgets the models that no worker trains, but for the spare ones. Their files stay open, since a checkpoint may
// still be in the writing. c.mu is held.
func (c *crew) evict() {
	var idle []string
	for identity, o := range c.bases {
		if o.users == 0 {
			idle = append(idle, identity)
		}
	}
	slices.SortFunc(idle, func(a, b string) int { return c.bases[b].used.Compare(c.bases[a].used) })
	for _, identity := range idle[min(spare, len(idle)):] {
		delete(c.bases, identity)
		delete(c.params, identity)
	}
}

// leave notes that a trainer of a run is gone.
func (c *crew) leave(identity string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.bases[identity]; o != nil {
		o.users--
		o.used = time.Now()
	}
	c.evict()
}

// training are the files of a checkpoint that only its own run needs: who begins from it does not fetch them.
var training = []string{checkpoints.OptimizerName, checkpoints.StateName, checkpoints.ManifestName}

// fetchModel makes sure that the model folder and the adapters of a run are here, and changes their paths in spec. folder
// fetches one from the coordinator.
func fetchModel(folder func(name string) (string, error), spec *runSpec) (err error) {
	m := &spec.Trainer.Model
	if m.Path != "" {
		if _, err := os.Stat(filepath.Join(m.Path, checkpoints.ModelConfigName)); err != nil {
			if m.Path, err = folder("model/"); err != nil {
				return fmt.Errorf("fetch the model folder: %w", err)
			}
		}
	}
	folders := adapterFolders(*m)
	if len(folders) != len(spec.Adapters) {
		return fmt.Errorf("run spec: %d adapters with %d digests", len(folders), len(spec.Adapters))
	}
	for i, want := range spec.Adapters {
		if have, err := readChain(folders[i]); err == nil && have.digest() == want {
			continue
		}
		if folders[i], err = folder(fmt.Sprintf("adapters/%d/", i)); err != nil {
			return fmt.Errorf("fetch adapter %d: %w", i, err)
		}
		if have, err := readChain(folders[i]); err != nil || have.digest() != want {
			return errors.Join(fmt.Errorf("adapter %d, as the coordinator has it, is not the one that the run began with", i), err)
		}
	}
	m.Merge = folders[:len(m.Merge)]
	if m.Adapter != "" {
		m.Adapter = folders[len(folders)-1]
	}
	return nil
}

func (c *crew) build(ctx context.Context, run worker.Run, dev *cpu.Device) (worker.Trainer, error) {
	base, spec, err := c.base(ctx, run)
	if err != nil {
		return nil, err
	}
	t, err := trainer.New(spec.Trainer, base, dev, trainer.Options{Keep: c.keep, Pool: dev.Pool()})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.params[run.Identity] = t.Params()
	if o := c.bases[run.Identity]; o != nil {
		o.users++
	} else { // another member's run took its place meanwhile
		c.bases[run.Identity] = &opened{base: base, model: spec.Trainer.Model, users: 1}
	}
	return &trains{t, sync.OnceFunc(func() { c.leave(run.Identity) })}, nil
}

// load reads the trainer's state from a checkpoint, which comes from the coordinator where the path is not here.
func (c *crew) load(ctx context.Context, run worker.Run, path string) (trainer.State, error) {
	if object.IsURL(path) {
		store, name, err := c.stores.checkpoint(path)
		if err != nil {
			return trainer.State{}, err
		}
		if path, err = store.Fetch(ctx, name); err != nil {
			return trainer.State{}, fmt.Errorf("fetch checkpoint: %w", err)
		}
	} else if _, err := os.Stat(path); err != nil {
		if path, err = run.Files.Folder(ctx, "checkpoints/"+filepath.Base(path)+"/"); err != nil {
			return trainer.State{}, fmt.Errorf("fetch checkpoint: %w", err)
		}
	}
	s, err := checkpoints.Load(ctx, path)
	if err != nil {
		return trainer.State{}, err
	}
	if s.Identity != run.Identity {
		spec, err := decodeSpec(run.Spec)
		if err != nil {
			return trainer.State{}, err
		}
		return trainer.State{}, &checkpoints.IdentityError{
			Name: path, Have: s.Identity, Want: run.Identity, Differences: checkpoints.Differences(s.Spec, spec.Identity),
		}
	}
	return stateOf(s), nil
}

func stateOf(s *checkpoints.Snapshot) trainer.State {
	return trainer.State{Step: s.Step, Parameters: s.Parameters, First: s.First, Second: s.Second, Maxima: s.Maxima, Attempt: s.Attempt}
}

// write writes a checkpoint of a state into the run's store.
func (c *crew) write(ctx context.Context, run worker.Run, state trainer.State, digest string) (path, manifest string, err error) {
	base, spec, err := c.base(ctx, run)
	if err != nil {
		return "", "", err
	}
	s := &checkpoints.Snapshot{
		Step: state.Step, Attempt: state.Attempt, Maxima: state.Maxima,
		Parameters: state.Parameters, First: state.First, Second: state.Second,
		Origin: checkpoints.Origin{
			Run: run.Name, Seed: spec.Trainer.Seed, Identity: run.Identity, Data: spec.Data, Tokenizer: spec.Tokenizer,
			ParameterDigest: digest, Version: version, Spec: spec.Identity,
		},
	}
	trained := map[string]bool{}
	c.mu.Lock()
	params := c.params[run.Identity]
	c.mu.Unlock()
	for _, t := range params {
		s.Tensors = append(s.Tensors, checkpoints.Tensor{Name: t.Name, Shape: t.Shape})
		trained[t.Name] = true
	}
	if s.Files, err = tokenizerFiles(spec.Trainer.Model); err != nil {
		return "", "", err
	}
	if len(spec.History) > 0 {
		s.Files[encode.HistoryName] = spec.History
	}
	if s.Files[checkpoints.ModelConfigName], err = base.ConfigJSON(spec.Trainer.Model.Attention); err != nil {
		return "", "", err
	}
	if l := spec.Trainer.Model.LoRA; l != nil {
		targets := l.Targets
		if len(targets) == 0 || slices.Contains(targets, "all-linear") {
			targets = backbone.Targets
		}
		told, err := decodeSpec(run.Spec) // the path as the run has it, so that all workers write the same
		if err != nil {
			return "", "", err
		}
		s.Adapter = &checkpoints.Adapter{
			Base: told.Trainer.Model.Path, Rank: l.Rank, Alpha: l.Alpha, Dropout: l.Dropout, RSLoRA: l.RSLoRA, Targets: targets,
			RankPattern: l.RankPattern, AlphaPattern: l.AlphaPattern,
		}
		if s.Adapter.Base == "" {
			s.Adapter.Base = spec.Trainer.Model.Preset
		}
		if err := carry(s, base.Merged()); err != nil {
			return "", "", err
		}
	} else if s.Frozen, err = base.Rest(trained); err != nil {
		return "", "", err
	}
	store, err := c.stores.at(run.Store)
	if err != nil {
		return "", "", err
	}
	m, err := (&checkpoints.Series{Store: store}).Write(ctx, s)
	if err != nil {
		return "", "", err
	}
	return store.Path(checkpoints.Name(state.Step)), m.Digest(), nil
}

// carry puts the adapters that lie merged below a snapshot's own into it: with the base they are all that its checkpoint
// needs.
func carry(s *checkpoints.Snapshot, merged []*hub.Adapter) error {
	if len(merged) == 0 {
		return nil
	}
	files, err := hub.MergedFiles(merged)
	if err != nil {
		return err
	}
	maps.Copy(s.Files, files)
	s.Adapter.Base = hub.OverMerged(s.Adapter.Base)
	return nil
}

// score turns a suite's embeddings into metrics.
func score(ctx context.Context, run worker.Run, suite int, _ data.Header, rows []float32, width int) (map[string]float64, error) {
	text, err := run.Files.Read(ctx, fmt.Sprintf("suite/%d", suite))
	if err != nil {
		return nil, err
	}
	var sheet data.Sheet
	if err := json.Unmarshal(text, &sheet); err != nil {
		return nil, fmt.Errorf("suite %d: %w", suite, err)
	}
	return evaluate.Score(&sheet, rows, width)
}
