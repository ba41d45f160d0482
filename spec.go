package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/data/tokenize"
	"github.com/counterpoint-ml/counterpoint/data/tokenize/tiny"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
)

// runSpec is what the coordinator hands to workers as the run's spec: all that a worker needs besides the model's
// folder. Checkpoints keep the identity, which has the same keys for what outlives the run (trainer, without the model's
// path, and prompt), so that a resume can show what differs and `eval` knows how to encode.
type runSpec struct {
	Trainer   trainer.Config  `json:"trainer"`
	Identity  json.RawMessage `json:"identity"`           // the settings that RunInfo.Identity is the digest of
	Adapters  []string        `json:"adapters,omitempty"` // digests of what model.merge and model.adapter stand for, in that order
	Data      string          `json:"data"`               // digest
	Tokenizer string          `json:"tokenizer"`
	Kernels   string          `json:"kernels,omitempty"`
	Prompt    prompt          `json:"prompt"`
	History   json.RawMessage `json:"history,omitempty"` // the runs before this one, for its checkpoints
}

// prompt is how the run's texts were written, for whoever encodes with its checkpoint later.
type prompt struct {
	Query     string `json:"query,omitempty"`
	Document  string `json:"document,omitempty"`
	MaxLength int    `json:"max_length"`
}

func decodeSpec(text []byte) (runSpec, error) {
	var s runSpec
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("run spec: %w", err)
	}
	return s, nil
}

// tokenizerFiles returns the files of a model's tokenizer by name, for its checkpoints.
func tokenizerFiles(model backbone.Config) (map[string][]byte, error) {
	files := tiny.Files()
	if model.Path != "" {
		var err error
		if files, err = tokenize.ReadFiles(model.Path); err != nil {
			return nil, err
		}
	}
	named := map[string][]byte{}
	for name, content := range map[string][]byte{
		tokenize.FileName: files.Tokenizer, "tokenizer_config.json": files.Config, "vocab.json": files.Vocab, "merges.txt": files.Merges,
	} {
		if content != nil {
			named[name] = content
		}
	}
	return named, nil
}

// modelDigest is the SHA-256 over a model folder's config.json and weights.
func modelDigest(dir string) (string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, name := range append([]string{filepath.Join(dir, checkpoints.ModelConfigName)}, names...) {
		if filepath.Base(name) == checkpoints.OptimizerName {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
