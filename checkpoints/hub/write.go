package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

// Folder is a model folder to be written, of files and weights.
type Folder struct {
	Files   map[string][]byte // by path with slashes
	Weights *Weights          // nil: none
}

// Weights are a model's tensors and how they are stored.
type Weights struct {
	Tensors safetensors.Tensors
	Names   map[string]string // name in the folder of each tensor that is written
	DType   safetensors.DType // F32 or BF16
	Shard   int64             // most bytes of a file; 0 = 5 GB, as transformers writes
}

// defaultShard is transformers' max_shard_size: decimal gigabytes.
const defaultShard = 5_000_000_000

// Write writes the folder to dir, which must be empty or missing.
func (f *Folder) Write(ctx context.Context, dir string) error {
	names := make([]string, 0, len(f.Files))
	for name := range f.Files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.Files[name], 0o644); err != nil {
			return err
		}
	}
	if f.Weights == nil {
		return nil
	}
	if err := f.Weights.write(ctx, dir); err != nil {
		return fmt.Errorf("write weights to %s: %w", dir, err)
	}
	return nil
}

// entry is a tensor of a shard.
type entry struct {
	from, name string
	shape      []int
	bytes      int64
}

// shards cuts the tensors, sorted by name, into files as transformers does: a new one where the limit would be passed.
func (w *Weights) shards() (shards [][]entry, total int64, err error) {
	limit := w.Shard
	if limit <= 0 {
		limit = defaultShard
	}
	var all []entry
	for from, name := range w.Names {
		info, ok := w.Tensors.Info(from)
		if !ok {
			return nil, 0, fmt.Errorf("no tensor %q", from)
		}
		all = append(all, entry{from, name, info.Shape, int64(info.Elements()) * int64(w.DType.Size())})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	size := int64(0)
	for _, e := range all {
		if len(shards) == 0 || size+e.bytes > limit {
			shards, size = append(shards, nil), 0
		}
		last := len(shards) - 1
		shards[last] = append(shards[last], e)
		size += e.bytes
		total += e.bytes
	}
	return shards, total, nil
}

func (w *Weights) write(ctx context.Context, dir string) error {
	shards, total, err := w.shards()
	if err != nil {
		return err
	}
	index := map[string]string{}
	for i, shard := range shards {
		file := safetensors.SingleName
		if len(shards) > 1 {
			file = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		var tensors []safetensors.Tensor
		for _, e := range shard {
			if err := ctx.Err(); err != nil {
				return err
			}
			t, err := w.tensor(e)
			if err != nil {
				return err
			}
			tensors = append(tensors, t)
			index[e.name] = file
		}
		write := func(out io.Writer) error { return safetensors.Write(out, tensors, nil) }
		if err := create(filepath.Join(dir, file), write); err != nil {
			return err
		}
	}
	if len(shards) < 2 {
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{
		"metadata": map[string]int64{"total_size": total}, "weight_map": index,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, safetensors.IndexName), append(text, '\n'), 0o644)
}

// tensor reads one tensor in the type in which it is stored.
func (w *Weights) tensor(e entry) (safetensors.Tensor, error) {
	t := safetensors.Tensor{Name: e.name, Shape: e.shape}
	if info, _ := w.Tensors.Info(e.from); info.DType == w.DType {
		raw, err := w.Tensors.Bytes(e.from)
		t.Raw, t.DType = raw, w.DType
		return t, err
	}
	values, err := w.Tensors.Float32(nil, e.from)
	if err != nil || w.DType == safetensors.F32 {
		t.Values = values
		return t, err
	}
	t.Raw, t.DType = bfloat16(values), safetensors.BF16
	return t, nil
}

func create(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

// AdapterFiles returns the files of an adapter that PEFT loads over AutoModel, from tensors with the keys of the
// encoder class. whole: AutoModel is the language model itself (Dream, LLaDA), whose modules lie under "model.".
func AdapterFiles(tensors []safetensors.Tensor, config AdapterConfig, whole bool) (map[string][]byte, error) {
	out := make([]safetensors.Tensor, len(tensors))
	for i, t := range tensors {
		if out[i] = t; whole {
			out[i].Name = root + "model." + t.Name[len(root):]
		}
	}
	var file writer
	if err := safetensors.Write(&file, out, nil); err != nil {
		return nil, err
	}
	text, err := config.encode(out)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{checkpoints.AdapterName: file, checkpoints.AdapterConfigName: text}, nil
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}
