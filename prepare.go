package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints/object"
	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/coordinator"
	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/data/tokenize"
	"github.com/counterpoint-ml/counterpoint/data/tokenize/tiny"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// prepared is a run with everything that a node needs to lead it: data, suites and the submission.
type prepared struct {
	config      *configs.Config
	model       string  // digest of the model folder's config.json and weights; "" for a preset
	adapters    []chain // of model.merge, and last of model.adapter
	tok         *tokenize.Tokenizer
	set         *data.Set
	instruction string // of the training queries
	suites      data.Suites
	asked       []string // of suites: what is put before their queries
	dir         string   // of the run: Raft log, events, report
	store       string   // of its checkpoints
	order       data.Order
	planned     []byte   // what plan wrote, so that it measures once
	after       string   // the stage before, if what it makes is not there yet: then there is no identity
	previous    string   // what becomes of its adapter
	sets        []string // of the command line, over the run file
	closers     []io.Closer
}

// prepare opens a run's model folder, tokenizer, data and suites.
func prepare(config *configs.Config, log *slog.Logger) (*prepared, error) {
	p := &prepared{config: config, dir: runDir(config), store: config.Checkpoint.Dir}
	if where := config.Checkpoint.Store; where != "" {
		folder, err := object.Folder(where)
		if err != nil {
			return nil, fmt.Errorf("checkpoint.store: %w", err)
		}
		if p.store = folder; folder == "" {
			p.store = where
		}
	}
	if p.store == "" {
		p.store = filepath.Join(p.dir, "checkpoints")
	}
	for _, path := range []*string{&p.dir, &p.store, &config.Model.Path} {
		if *path == "" || object.IsURL(*path) {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return nil, err
		}
		*path = abs
	}
	if err := p.openModel(log); err != nil {
		return nil, err
	}
	if err := p.maskToken(); err != nil {
		return nil, err
	}
	if err := p.openAdapters(log); err != nil {
		return nil, err
	}
	cache := filepath.Join(p.dir, "cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	var err error
	if p.set, err = data.Open(config.Data, config.Order(), p.tok, cache, log); err != nil {
		return nil, err
	}
	p.closers = append(p.closers, p.set)
	p.order = config.Order()
	p.order.ShardTokens = p.set.ShardTokens()
	if p.instruction, err = p.set.Instruction(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	for _, s := range config.Evaluate.Suites {
		suites, err := data.OpenSuites(s.Open(config.Train.MaxLength, p.instruction, config.Data[0].Document), p.tok, cache, log)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.suites = append(p.suites, suites...)
		for range suites {
			p.asked = append(p.asked, asked(s, p.instruction))
		}
	}
	if err := p.checkBest(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// asked says what is put before a suite's queries, or before all texts of tasks whose sides are alike, and by whom.
func asked(s evaluate.Suite, usual string) string {
	whose, text := "its own", s.Instruction
	switch {
	case text == "":
		whose, text = "the data's, as it has none of its own", usual
	case s.MTEB != "":
		whose = "of " + s.MTEB
	}
	if text == data.NoInstruction {
		return fmt.Sprintf("without instruction (%s)", whose)
	}
	return fmt.Sprintf("after %q (%s)", text, whose)
}

// checkBest refuses a metric that no suite is measured by.
func (p *prepared) checkBest() error {
	best := p.config.Checkpoint.Best
	if best == "" || len(p.suites) == 0 {
		return nil
	}
	var mains []string
	for _, s := range p.suites {
		sheet := s.Sheet()
		if evaluate.Has(&sheet, best) {
			return nil
		}
		mains = append(mains, fmt.Sprintf("%s of %s", evaluate.Main(&sheet), s.Name))
	}
	return fmt.Errorf("checkpoint.best: %q is a metric of none of the suites; %s or %s are allowed, for example", best, evaluate.MainScore, strings.Join(mains, ", "))
}

// openModel finds the model folder (a folder of checkpoints means its newest sound one) and the tokenizer.
func (p *prepared) openModel(log *slog.Logger) error {
	var err error
	if p.config.Model.Path == "" {
		p.tok, err = tiny.Open()
		return err
	}
	if p.config.Model.Path, err = findModel(context.Background(), p.config.Model.Path, log); err != nil {
		return err
	}
	if p.model, err = modelDigest(p.config.Model.Path); err != nil {
		return err
	}
	p.tok, err = tokenize.Open(p.config.Model.Path)
	return err
}

// identity returns what decides the run's result, as JSON and as a digest: model, data, loss, train and shards.
func (p *prepared) identity() (settings []byte, digest string, err error) {
	t := p.config.Trainer()
	t.Model.Path, t.Model.Merge, t.Model.Adapter = "", nil, "" // content, not place: a folder may move
	sources := slices.Clone(p.config.Data)
	for i := range sources {
		sources[i].Path = filepath.Base(sources[i].Path)
		sources[i].Format = "" // told or written: the data's digest has it
	}
	settings, err = json.Marshal(struct {
		Trainer any      `json:"trainer"`
		Model   string   `json:"model_digest,omitempty"`
		Merged  []string `json:"merged_digests,omitempty"` // adapters below the weights that train, in their order
		Adapter string   `json:"adapter_digest,omitempty"` // where the adapter begins
		Order   any      `json:"order"`
		Sources any      `json:"data"`
		Data    string   `json:"data_digest"`
		Prompt  prompt   `json:"prompt"`
	}{t, p.model, p.merged(), p.initial(), p.order, sources, p.set.Digest(), p.prompt()})
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(settings)
	return settings, hex.EncodeToString(sum[:]), nil
}

func (p *prepared) prompt() prompt {
	query := p.instruction
	if query == data.NoInstruction {
		query = ""
	}
	return prompt{Query: query, Document: p.config.Data[0].Document, MaxLength: p.config.Train.MaxLength}
}

// submission is the run as the coordinator takes it.
func (p *prepared) submission() (coordinator.Submission, error) {
	settings, digest, err := p.identity()
	if err != nil {
		return coordinator.Submission{}, err
	}
	history, err := p.history()
	if err != nil {
		return coordinator.Submission{}, err
	}
	spec, err := json.Marshal(runSpec{
		Trainer: p.config.Trainer(), Identity: settings, Adapters: p.adapterDigests(), Data: p.set.Digest(), Tokenizer: p.tok.Digest(), Kernels: p.config.Cluster.Kernels,
		Prompt: p.prompt(), History: history,
	})
	if err != nil {
		return coordinator.Submission{}, err
	}
	c := p.config
	share, err := coordinator.ParseShare(c.Cluster.Audit)
	if err != nil {
		return coordinator.Submission{}, fmt.Errorf("cluster.audit: %w", err)
	}
	return coordinator.Submission{
		Name: c.Name, Identity: digest, Identify: settings, Spec: spec,
		Folder: p.store, Model: c.Model.Path, Adapters: adapterFolders(c.Model), Steps: c.Train.Steps,
		Settings: fsm.Settings{
			CheckpointEvery: c.Checkpoint.Every, Keep: c.Checkpoint.Keep, Best: c.Checkpoint.Best,
			EvaluateEvery: c.Evaluate.Every, EvaluateStart: c.Evaluate.Before, Mixed: c.Cluster.Mixed, Audit: share,
			Labels: c.Cluster.Labels, WorkersMin: c.Cluster.WorkersMin, WorkersMax: c.Cluster.WorkersMax,
		},
	}, nil
}

func (p *prepared) close() error {
	var errs []error
	for _, c := range p.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
