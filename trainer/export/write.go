package export

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sort"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/hub"
	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
	"github.com/counterpoint-ml/counterpoint/data/tokenize"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// baseFolder holds the base of an adapter over a preset or over a checkpoint, which exists nowhere else.
const baseFolder = "base"

// write writes the folder without its card. All formats bear sentence-transformers' files, which say how texts become
// vectors where config.json has no word for it.
func (x *exporter) write(ctx context.Context, dir string) error {
	files, err := x.sentence.Files(x.o.Version)
	switch {
	case err == nil:
	case x.o.Format == hub.SentenceFormat:
		return err
	default:
		return fmt.Errorf("the files that say how texts become vectors: %w", err)
	}
	tokens, err := x.tokenizer()
	if err != nil {
		return err
	}
	maps.Copy(files, tokens)
	folder := &hub.Folder{Files: files}
	if x.o.Format == hub.PEFTFormat {
		return x.writeAdapter(ctx, dir, folder)
	}
	config, dtype := x.config, safetensors.F32
	encoder := x.o.Format == hub.SentenceFormat
	if encoder {
		if config, err = hub.Portable(config); err != nil {
			return err
		}
	} else if err := x.code(files); err != nil {
		return err
	}
	change := hub.ModelConfig{Causal: x.causal, Encoder: encoder, DType: "float32"}
	if x.o.DType == "bfloat16" {
		change.DType, dtype = "bfloat16", safetensors.BF16
	}
	if files[checkpoints.ModelConfigName], err = change.Apply(config); err != nil {
		return err
	}
	folder.Weights = &hub.Weights{Tensors: x.weights, Names: hub.Names(x.weights.Names(), encoder), DType: dtype, Shard: x.o.Shard}
	return folder.Write(ctx, dir)
}

// tokenizer returns the checkpoint's tokenizer with what the run left out left out.
func (x *exporter) tokenizer() (map[string][]byte, error) {
	files, err := tokenize.ReadFiles(x.reference.Dir)
	if err != nil {
		return nil, err
	}
	tok, err := files.Open(x.reference.Dir)
	if err != nil {
		return nil, err
	}
	before, after := tok.Around()
	return hub.Tokenizer(files.Contents(), len(before)+len(after) > 0, x.sentence.MaxLength)
}

// adapterTensors returns the adapter's tensors and its configuration. Of a run that merged others into its base first it
// is all of them stacked, over the base as it was: PEFT has no word for a base with adapters merged into it.
func (x *exporter) adapterTensors() ([]safetensors.Tensor, hub.AdapterConfig, error) {
	l := x.run.Model.LoRA
	c := hub.AdapterConfig{Base: x.baseName(), Rank: l.Rank, Alpha: l.Alpha, Dropout: l.Dropout, RSLoRA: l.RSLoRA, RankPattern: l.RankPattern, AlphaPattern: l.AlphaPattern}
	if len(x.run.MergedDigests) > 0 {
		return x.stack(c)
	}
	f, err := safetensors.Open(filepath.Join(x.reference.Dir, checkpoints.AdapterName))
	if err != nil {
		return nil, c, err
	}
	defer f.Close()
	var tensors []safetensors.Tensor
	for _, name := range f.Names() {
		values, err := f.Float32(nil, name)
		if err != nil {
			return nil, c, err
		}
		info, _ := f.Info(name)
		tensors = append(tensors, safetensors.Tensor{Name: name, Shape: info.Shape, Values: values})
	}
	return tensors, c, nil
}

func (x *exporter) stack(c hub.AdapterConfig) ([]safetensors.Tensor, hub.AdapterConfig, error) {
	chain, err := hub.OpenChain(x.reference.Dir)
	if err != nil {
		return nil, c, err
	}
	defer func() { _ = hub.CloseAll(chain) }() // read only
	rank, modules, err := hub.Stack(chain)
	if err != nil {
		return nil, c, fmt.Errorf("%w: --format %s or %s", err, hub.SentenceFormat, hub.ModelFormat)
	}
	var tensors []safetensors.Tensor
	for _, m := range modules {
		tensors = append(tensors,
			safetensors.Tensor{Name: "base_model.model." + m.Path + ".lora_A.weight", Shape: []int{rank, m.In}, Values: m.A},
			safetensors.Tensor{Name: "base_model.model." + m.Path + ".lora_B.weight", Shape: []int{m.Out, rank}, Values: m.B})
	}
	x.stacked = len(chain)
	return tensors, hub.AdapterConfig{Base: c.Base, Rank: rank, Alpha: float64(rank), Dropout: c.Dropout}, nil
}

// writeAdapter writes an adapter over AutoModel, and the base beside it if that exists nowhere else.
func (x *exporter) writeAdapter(ctx context.Context, dir string, folder *hub.Folder) error {
	tensors, c, err := x.adapterTensors()
	if err != nil {
		return err
	}
	files, err := hub.AdapterFiles(tensors, c, hub.Whole(x.config))
	if err != nil {
		return err
	}
	maps.Copy(folder.Files, files)
	change := hub.ModelConfig{Causal: x.causal, DType: "float32"}
	config, err := change.Apply(x.config)
	if err != nil {
		return err
	}
	if x.own, err = x.differs(); err != nil {
		return err
	}
	if x.own {
		folder.Files[checkpoints.ModelConfigName] = config
	}
	if err := folder.Write(ctx, dir); err != nil || !x.ships {
		return err
	}
	base, err := backbone.Load(backbone.Config{Path: x.home, Preset: x.run.Model.Preset}, x.run.Seed)
	if err != nil {
		return err
	}
	defer base.Close()
	weights, err := base.Weights()
	if err != nil {
		return err
	}
	below := &hub.Folder{
		Files:   map[string][]byte{checkpoints.ModelConfigName: config},
		Weights: &hub.Weights{Tensors: weights, Names: hub.Names(weights.Names(), false), DType: safetensors.F32, Shard: x.o.Shard},
	}
	return below.Write(ctx, filepath.Join(dir, baseFolder))
}

// differs reports whether an adapter computes with another attention than its base's config.json says. Its folder then
// has a config.json of its own, with which transformers and sentence-transformers refuse to load the folder by itself:
// they would take the base's. Without it they find the base, and load both.
func (x *exporter) differs() (bool, error) {
	if x.ships {
		return false, nil // the base is written with this attention
	}
	a, err := backbone.ReadArchitecture(x.home)
	return err == nil && (a.Bidirectional == x.causal || !x.causal && a.Window > 0), err
}

// baseName is what adapter_config.json calls the base.
func (x *exporter) baseName() string {
	switch {
	case x.o.BaseName != "":
		return x.o.BaseName
	case x.ships:
		return baseFolder
	default:
		return x.home
	}
}

// code copies the Python files of a family whose code comes with its weights. A fully trained checkpoint has none: they
// are in the folder that its run began with, which the user names.
func (x *exporter) code(files map[string][]byte) error {
	dir := x.home
	if x.o.Base != "" {
		dir = x.o.Base
	}
	if dir == "" || !hub.Whole(x.config) {
		return nil
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.py"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if files[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			return err
		}
	}
	return nil
}

// card describes the export.
func (x *exporter) card(r *Result) *hub.Card {
	c := &hub.Card{
		Name: x.run.Run, Format: x.o.Format, Step: x.run.Step, Version: x.o.Version, Parameters: x.run.ParameterDigest,
		Sentence: x.sentence, Causal: x.causal, OwnConfig: x.own, Family: x.reference.Architecture().Family, Scores: map[string]float64{},
		Matryoshka: x.run.Loss.Matryoshka,
	}
	maps.Copy(c.Scores, x.run.Metrics)
	switch lora := x.run.Model.LoRA != nil; {
	case x.o.BaseName != "":
		c.Base = x.o.BaseName
	case lora && x.o.Format == hub.PEFTFormat:
		c.Base = x.baseName()
	case lora && x.ships && x.home != "":
		c.Base = fmt.Sprintf("weights with the digest %.16s, of the run before", x.run.BaseDigest)
	case lora && x.home != "":
		c.Base = filepath.Base(x.home) // where it lies on this machine is nobody's business
	case x.run.BaseDigest != "":
		c.Base = fmt.Sprintf("weights with the digest %.16s", x.run.BaseDigest)
	}
	if x.o.Scores != nil {
		maps.Copy(c.Scores, x.o.Scores(x.reference.Dir, x.run.Step))
	}
	var recipe any
	if text, err := json.Marshal(x.run.Config); err == nil && json.Unmarshal(text, &recipe) == nil {
		c.Rows = flatten(nil, "", recipe)
	}
	c.Data = sources(x.run.Spec)
	for _, a := range x.run.History {
		stage := hub.CardStage{Name: a.Run, Step: a.Step, Took: a.Took, Data: sources(a.Settings)}
		var settings struct{ Trainer any }
		if json.Unmarshal(a.Settings, &settings) == nil {
			stage.Rows = flatten(nil, "", settings.Trainer)
		}
		c.Stages = append(c.Stages, stage)
	}
	c.Stacked = x.stacked
	c.Checks = append(c.Checks, fmt.Sprintf("This folder was read back before it was published: of %d texts, no value of an embedding differs by more than %.1g from the checkpoint's.", r.Texts, max(r.Difference, 1e-9)))
	return c
}

// sources lists what a run of those settings has read.
func sources(settings json.RawMessage) []string {
	var spec struct {
		Data []struct {
			Path, Instruction string
			Document          string `json:"document_instruction"`
			Limit             int
			Weight            float64
		}
		Digest string `json:"data_digest"`
	}
	if json.Unmarshal(settings, &spec) != nil { // of another version
		return nil
	}
	var out []string
	for _, d := range spec.Data {
		line := "`" + filepath.Base(d.Path) + "`"
		if d.Instruction != "" {
			line += fmt.Sprintf(", queries after %q", d.Instruction+": ")
		}
		if d.Document != "" {
			line += fmt.Sprintf(", documents after %q", d.Document+": ")
		}
		if d.Limit > 0 {
			line += fmt.Sprintf(", the first %d rows", d.Limit)
		}
		if d.Weight > 0 {
			line += fmt.Sprintf(", weight %v", d.Weight)
		}
		out = append(out, line)
	}
	if spec.Digest != "" {
		out = append(out, fmt.Sprintf("digest of all: `%.16s`", spec.Digest))
	}
	return out
}

// flatten lists the leaves of a decoded JSON value by path.
func flatten(rows [][2]string, path string, v any) [][2]string {
	object, ok := v.(map[string]any)
	if !ok {
		text, err := json.Marshal(v)
		if err != nil {
			return rows
		}
		return append(rows, [2]string{path, string(text)})
	}
	var keys []string
	for k := range object {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		next := k
		if path != "" {
			next = path + "." + k
		}
		rows = flatten(rows, next, object[k])
	}
	return rows
}
