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

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
)

// chain is the digests of the adapters that a folder stands for: those that its checkpoint carries, in the order in
// which they were merged, and its own.
type chain []string

// digest is one digest for all of them.
func (c chain) digest() string {
	h := sha256.New()
	for _, d := range c {
		io.WriteString(h, d+"\n")
	}
	return hex.EncodeToString(h.Sum(nil))
}

// readChain reads the chain of an adapter's folder.
func readChain(dir string) (_ chain, err error) {
	adapters, err := hub.OpenChain(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, hub.CloseAll(adapters)) }()
	var out chain
	for _, a := range adapters {
		d, err := a.Digest()
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// adapterFolders lists the folders of model.merge, and last that of model.adapter.
func adapterFolders(c backbone.Config) []string {
	out := slices.Clone(c.Merge)
	if c.Adapter != "" {
		out = append(out, c.Adapter)
	}
	return out
}

// openAdapters finds the folders of model.merge and model.adapter (a folder of checkpoints means its newest sound one),
// and refuses a checkpoint whose adapter was trained over other weights.
func (p *prepared) openAdapters(log *slog.Logger) error {
	m := &p.config.Model
	m.Merge = slices.Clone(m.Merge)
	find := func(key string, path *string) error {
		dir, err := findModel(context.Background(), *path, log)
		if err == nil {
			dir, err = filepath.Abs(dir)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		*path = dir
		digests, err := readChain(dir)
		if err == nil {
			err = p.sameBase(dir)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		p.adapters = append(p.adapters, digests)
		return nil
	}
	for i := range m.Merge {
		if err := find(fmt.Sprintf("model.merge[%d]", i), &m.Merge[i]); err != nil {
			return err
		}
	}
	if m.Adapter == "" {
		return nil
	}
	return find("model.adapter", &m.Adapter)
}

// sameBase compares the weights that a checkpoint's adapter was trained over with the run's. A PEFT folder does not say.
func (p *prepared) sameBase(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, checkpoints.ManifestName)); err != nil {
		return nil
	}
	run, err := encode.ReadRun(dir)
	if err != nil {
		return err
	}
	switch preset := p.config.Model.Preset; {
	case run.BaseDigest != p.model:
		return fmt.Errorf("%s was trained over weights with the digest %.16s, model.path has %.16s (none: a preset)", dir, run.BaseDigest, p.model)
	case preset != "" && (preset != run.Model.Preset || p.config.Train.Seed != run.Seed):
		return fmt.Errorf("%s was trained over the preset %s of seed %d, and this run's is %s of seed %d: random weights are those of train.seed",
			dir, run.Model.Preset, run.Seed, preset, p.config.Train.Seed)
	}
	return nil
}

// merged lists the digests of all adapters that are merged into the weights, in their order.
func (p *prepared) merged() []string {
	var out []string
	for i, c := range p.adapters {
		if i == len(p.config.Model.Merge) { // that of model.adapter: what lies below it
			c = c[:len(c)-1]
		}
		out = append(out, c...)
	}
	return out
}

// initial is the digest of the adapter that training continues from; "" = a new one.
func (p *prepared) initial() string {
	if p.config.Model.Adapter == "" {
		return ""
	}
	last := p.adapters[len(p.adapters)-1]
	return last[len(last)-1]
}

func (p *prepared) adapterDigests() []string {
	var out []string
	for _, c := range p.adapters {
		out = append(out, c.digest())
	}
	return out
}

// history tells of the runs that made what this one begins with, as JSON; nil if there are none.
func (p *prepared) history() (json.RawMessage, error) {
	m := p.config.Model
	type origin struct{ dir, took string }
	var from []origin
	if m.Path != "" {
		from = append(from, origin{m.Path, encode.TookWeights})
	}
	for _, dir := range m.Merge {
		from = append(from, origin{dir, encode.TookMerged})
	}
	if m.Adapter != "" {
		from = append(from, origin{m.Adapter, encode.TookContinued})
	}
	var all []encode.Ancestor
	for _, o := range from {
		before, err := encode.History(o.dir, o.took)
		if err != nil {
			return nil, err
		}
		for _, a := range before {
			if !slices.ContainsFunc(all, func(b encode.Ancestor) bool { return a.Identity == b.Identity && a.Step == b.Step }) {
				all = append(all, a)
			}
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return json.Marshal(all)
}
