package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/configs"
	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/encode"
	"github.com/counterpoint-ml/counterpoint/trainer/encode/vectors"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/evaluate"
)

// judge evaluates one model on suites.
type judge struct {
	*evaluation
	model  *encode.Encoder
	name   string // for people
	kept   *vectors.Cache
	digest string // of the model; "" = not computed
	full   bool   // no more is kept
	stderr io.Writer
}

func (e *evaluation) device() (*cpu.Device, error) {
	if e.threads == 0 {
		e.threads = runtime.GOMAXPROCS(0)
	}
	dev, _, err := e.rounding.device(e.threads, &e.Options, os.Stderr)
	return dev, err
}

// open opens the model and what was kept of its embeddings.
func (e *evaluation) open(cmd *cobra.Command, path string, dev *cpu.Device) (*judge, error) {
	log, err := logger(cmd.ErrOrStderr(), "warn")
	if err != nil {
		return nil, err
	}
	own := *e                         // the next model has another limit of its own
	own.Log, own.Unmerged = log, true // as the run itself evaluates
	j := &judge{evaluation: &own, stderr: cmd.ErrOrStderr()}
	here, err := findModel(cmd.Context(), path, log)
	if err != nil {
		return nil, err
	}
	if j.model, err = encode.Open(cmd.Context(), here, dev, own.Options); err != nil {
		return nil, err
	}
	if j.name, err = own.fill(j.model, path); err == nil && !e.again {
		err = j.recall(dev.Numerics())
	}
	if err != nil {
		j.close()
		return nil, err
	}
	return j, nil
}

// identity is the digest of the model, whose files are read once for it.
func (j *judge) identity() (string, error) {
	var err error
	if j.digest == "" {
		j.digest, err = j.model.Digest()
	}
	return j.digest, err
}

// keptBytes bounds the embeddings that are kept of all models.
const keptBytes = 8 << 30

// recall opens the embeddings that were kept of the model. Their folder is that of the model's digest, which has what
// decides an embedding besides its tokens, and of the processor's numerics. Without a place for them nothing is kept, and
// that is said.
func (j *judge) recall(numerics string) error {
	dir, err := data.CacheFolder("embeddings")
	if err != nil || dir == "" {
		if err != nil {
			j.Log.Warn("embeddings are not kept", "error", err)
		}
		return nil
	}
	digest, err := j.identity()
	if err != nil {
		return err
	}
	if j.int8 { // what was kept under another demand was not held against the exact vectors under this one
		numerics += fmt.Sprintf(" %g", j.least)
	}
	if j.kept, err = vectors.Open(dir, vectors.Model(digest, numerics), j.model.Width(), keptBytes); err != nil {
		j.Log.Warn("embeddings are not kept", "error", err)
		j.kept = nil
	}
	return nil
}

func (j *judge) close() {
	if j.kept != nil {
		if err := j.kept.Close(); err != nil {
			j.Log.Warn("embeddings were not kept", "error", err)
		}
	}
	if err := j.model.Close(); err != nil {
		j.Log.Warn("close the model", "error", err)
	}
}

// fill takes from the model what the flags leave open, and returns the model's name for people.
func (e *evaluation) fill(model *encode.Encoder, path string) (name string, err error) {
	const long = 512 // a model's own limit is often that of its positions: 32,768 and more
	if own := model.Kind == encode.Checkpoint || model.Kind == encode.Sentence; e.MaxLength == 0 && (!own || model.MaxLength == 0) {
		if model.MaxLength == 0 || model.MaxLength > long {
			model.MaxLength = long
		}
	}
	if model.Kind != encode.Checkpoint {
		return filepath.Base(filepath.Clean(path)), nil
	}
	run, err := encode.ReadRun(model.Dir)
	if err != nil {
		return "", err
	}
	if run.Model.LoRA != nil {
		base, err := run.BaseFolder(e.Base)
		if err == nil {
			err = run.CheckBase(base, modelDigest)
		}
		if err != nil {
			e.Log.Warn("the base differs from the one that the adapter was trained on", "error", err)
		}
	}
	if e.modelName == "" {
		e.modelName = run.Run
	}
	if e.revision == "" {
		e.revision = checkpoints.Name(run.Step)
	}
	return fmt.Sprintf("%s, step %d", run.Run, run.Step), nil
}

// all evaluates the model on suites, one after another.
func (j *judge) all(ctx context.Context, specs []evaluate.Suite) ([]evalResult, error) {
	var out []evalResult
	names := map[string]int{}
	for _, s := range specs {
		config := s.Open(j.model.MaxLength, "", "")
		config.Instruction, config.Document = "", "" // put before the texts here, as the model writes prompts
		suites, err := data.OpenSuites(config, j.model.Tokenizer(), "", j.Log)
		if err != nil {
			return nil, err
		}
		for i, suite := range suites {
			r, err := j.one(ctx, suite, s)
			if err != nil {
				for _, open := range suites[i:] {
					open.Close()
				}
				return nil, fmt.Errorf("suite %s: %w", suite.Name, err)
			}
			if names[r.Suite]++; names[r.Suite] > 1 {
				r.Suite = fmt.Sprintf("%s-%d", r.Suite, names[r.Suite])
			}
			out = append(out, r)
			if err := suite.Close(); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// prompts sets what is written before a suite's texts: by the flags, else by the task, else by the model.
func (j *judge) prompts(s evaluate.Suite, r *evalResult) {
	for _, x := range []struct {
		flag, said, task string
		roles            []string // the first that the model has is meant, as sentence-transformers' encode_document does
		to, of           *string
	}{
		{"instruction", j.query, s.Instruction, []string{"query"}, &r.Query, &r.QueryOf},
		{"document-instruction", j.document, s.Document, []string{"document", "passage", "corpus"}, &r.Document, &r.DocOf},
	} {
		own := j.model.Prompts[j.model.DefaultPrompt]
		for _, role := range slices.Backward(x.roles) {
			if p, ok := j.model.Prompts[role]; ok {
				own = p
			}
		}
		switch {
		case j.given(x.flag):
			if *x.of = "flag"; x.said != "" && x.said != data.NoInstruction {
				*x.to = j.written(x.said)
			}
		case x.task != "":
			*x.to, *x.of = j.written(x.task), "task"
		case own != "":
			*x.to, *x.of = own, "model"
		default:
			*x.of = "nobody"
		}
	}
}

// written is an instruction as it stands before a text, by default as in training.
func (e *evaluation) written(instruction string) string {
	return strings.ReplaceAll(strings.ReplaceAll(e.template, `\n`, "\n"), "{}", instruction)
}

// one evaluates the model on one suite.
func (j *judge) one(ctx context.Context, suite *data.Suite, s evaluate.Suite) (evalResult, error) {
	sheet := suite.Sheet()
	r := evalResult{
		Suite: suite.Name, Group: sheet.Group, Kind: sheet.Kind, Task: s.MTEB, Main: evaluate.Main(&sheet), Texts: suite.Header().Slots,
		Queries: len(sheet.Queries), Documents: len(sheet.Documents), sheet: sheet,
	}
	if r.Kind == "" {
		r.Kind = data.BEIRTask
	}
	if t, ok := configs.MTEB(s.MTEB); ok && t.Paper && r.Group == "" {
		r.Group = "MTEB, the paper's tasks"
	}
	r.Excluded = sheet.Rule()
	j.prompts(s, &r)
	began := time.Now()
	e := &embedder{judge: j, suite: suite, result: &r, query: s.MaxQuery, progress: ticker(j.stderr, suite.Name)}
	var err error
	if sheet.Kind != "" {
		var rows []float32
		if rows, err = e.rows(ctx, 0, r.Texts); err == nil {
			r.Metrics, err = evaluate.Score(&sheet, rows, j.model.Width())
		}
	} else if r.run, err = e.retrieve(ctx, &sheet); err == nil {
		r.Metrics, err = evaluate.ScoreSheet(&sheet, r.run)
	}
	if err != nil {
		return r, err
	}
	r.Seconds = time.Since(began).Seconds()
	r.digest = suite.Digest()
	if sheet.Kind == "" {
		if r.BM25, err = evaluate.Lexical(suite); err != nil {
			return r, err
		}
	}
	if r.Texts <= mostRandom {
		if r.Random, err = evaluate.Random(&sheet, r.Texts, 42); err != nil {
			return r, err
		}
	}
	if j.texts && r.run != nil {
		err = r.remember(suite)
	}
	return r, err
}

// mostRandom is the number of texts up to which the row of random vectors is worth its memory.
const mostRandom = 200_000

// group is the mean of suites that belong together.
type group struct {
	Name   string  `json:"name"`
	Score  float64 `json:"score"`
	Suites int     `json:"suites"`
}

// groups are the means of the main scores of suites that belong together, in order.
func groups(results []evalResult) []group {
	var out []group
	at := map[string]int{}
	for _, r := range results {
		if r.Group == "" {
			continue
		}
		i, ok := at[r.Group]
		if !ok {
			i = len(out)
			at[r.Group] = i
			out = append(out, group{Name: r.Group})
		}
		out[i].Suites++
		out[i].Score += (r.Metrics[evaluate.MainScore] - out[i].Score) / float64(out[i].Suites)
	}
	return out
}
