package checkpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

// Names of the files of a checkpoint. With config.json and the tokenizer's files beside model.safetensors, a
// checkpoint is a Hugging Face folder too; with adapter_model.safetensors it is a PEFT one.
const (
	ModelName         = safetensors.SingleName
	AdapterName       = "adapter_model.safetensors"
	AdapterConfigName = "adapter_config.json"
	OptimizerName     = "optimizer.safetensors"
	StateName         = "state.json"
	ManifestName      = "manifest.json"
	ModelConfigName   = "config.json"
)

// Tensor is a part of the flat parameters, under the name that it has on disk.
type Tensor struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
}

// Size returns the number of values.
func (t Tensor) Size() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Snapshot is what a checkpoint holds: everything that the next step depends on, and what says where it is from.
// Equal snapshots make equal bytes, so any worker that holds the state writes the same manifest.
type Snapshot struct {
	Step       int64
	Attempt    int32     // committed with the step
	Maxima     []float32 // [tensors of the trainer] committed with the step; nil before the first
	Tensors    []Tensor  // the parameters' parts, in their order, covering them exactly
	Parameters []float32 // [P] trainable
	First      []float32 // [P] AdamW's first moment
	Second     []float32 // [P] AdamW's second moment

	Adapter *Adapter             // LoRA: Parameters are adapters; nil: they are the model
	Frozen  []safetensors.Tensor // weights that do not train but belong into model.safetensors; not read back
	Files   map[string][]byte    // config.json, tokenizer.json, tokenizer_config.json, ...: copied as they are

	Origin
}

// Origin says what a checkpoint is a checkpoint of.
type Origin struct {
	Run             string             `json:"run"`        // name of the run
	Seed            uint64             `json:"seed"`       //
	Identity        string             `json:"identity"`   // digest of model, data, loss, train and shard settings
	Data            string             `json:"data"`       // digest of the data
	Tokenizer       string             `json:"tokenizer"`  // digest of the tokenizer
	ParameterDigest string             `json:"parameters"` // committed digest of the parameters
	Version         string             `json:"version"`    // of the code
	Metrics         map[string]float64 `json:"metrics,omitempty"`
	Spec            json.RawMessage    `json:"-"` // the settings that Identity is the digest of, as json.Marshal writes them; kept in state.json
}

// state is state.json: what Load needs besides the tensors.
type state struct {
	Step       int64           `json:"step"`
	Attempt    int32           `json:"attempt"`
	Seed       uint64          `json:"seed"`
	Parameters string          `json:"parameters"`
	Maxima     int             `json:"maxima"` // how many; -1 = none
	Tensors    []Tensor        `json:"tensors"`
	Spec       json.RawMessage `json:"spec,omitempty"`
}

// File is a file to be written.
type File struct {
	Name  string
	Write func(w io.Writer) error
}

func (s *Snapshot) check() error {
	size := 0
	for _, t := range s.Tensors {
		size += t.Size()
	}
	if size != len(s.Parameters) || len(s.First) != size || len(s.Second) != size {
		return fmt.Errorf("tensors have %d values, but there are %d parameters, %d first and %d second moments", size, len(s.Parameters), len(s.First), len(s.Second))
	}
	if s.Step < 0 {
		return fmt.Errorf("step %d is negative", s.Step)
	}
	for name := range s.Files {
		if reserved(name) || !PlainName(name) {
			return fmt.Errorf("file name %q is not allowed", name)
		}
	}
	if s.Adapter != nil && len(s.Frozen) > 0 {
		return errors.New("an adapter's checkpoint cannot hold frozen weights")
	}
	return nil
}

func reserved(name string) bool {
	switch name {
	case ModelName, AdapterName, AdapterConfigName, OptimizerName, StateName, ManifestName:
		return true
	}
	return false
}

// files returns all files but the manifest, in the order in which they are written.
func (s *Snapshot) files() ([]File, error) {
	var out []File
	weights := append(s.cut("", s.Parameters), s.Frozen...)
	if s.Adapter != nil {
		out = append(out, tensorFile(AdapterName, weights))
		text, err := s.Adapter.encode()
		if err != nil {
			return nil, err
		}
		out = append(out, bytesFile(AdapterConfigName, text))
	} else {
		out = append(out, tensorFile(ModelName, weights))
	}
	moments := append(s.cut("first.", s.First), s.cut("second.", s.Second)...)
	count := -1
	if s.Maxima != nil {
		count = len(s.Maxima)
		moments = append(moments, safetensors.Tensor{Name: "maxima", Shape: []int{count}, Values: s.Maxima})
	}
	out = append(out, tensorFile(OptimizerName, moments))
	text, err := json.MarshalIndent(state{s.Step, s.Attempt, s.Seed, s.ParameterDigest, count, s.Tensors, s.Spec}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", StateName, err)
	}
	out = append(out, bytesFile(StateName, append(text, '\n')))
	names := make([]string, 0, len(s.Files))
	for name := range s.Files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		out = append(out, bytesFile(name, s.Files[name]))
	}
	return out, nil
}

// cut gives each tensor its part of the flat values.
func (s *Snapshot) cut(prefix string, values []float32) []safetensors.Tensor {
	out := make([]safetensors.Tensor, len(s.Tensors))
	for i, t := range s.Tensors {
		out[i] = safetensors.Tensor{Name: prefix + t.Name, Shape: t.Shape, Values: values[:t.Size()]}
		values = values[t.Size():]
	}
	return out
}

func tensorFile(name string, tensors []safetensors.Tensor) File {
	return File{name, func(w io.Writer) error { return safetensors.Write(w, tensors, nil) }}
}

func bytesFile(name string, content []byte) File {
	return File{name, func(w io.Writer) error { _, err := w.Write(content); return err }}
}
