package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Names of a model's weights in a Hugging Face folder.
const (
	SingleName = "model.safetensors"
	IndexName  = "model.safetensors.index.json"
)

// Folder is a model that is spread over several files.
type Folder struct {
	dir   string
	files []*File
	where map[string]*File
	names []string
}

// OpenFolder opens a model's weights: model.safetensors, or the shards that model.safetensors.index.json names.
// A tensor that the index names must be in the shard that it names; tensors that the index does not name are
// not visible. A wrong metadata.total_size is ignored, as elsewhere.
func OpenFolder(dir string) (Tensors, error) {
	indexPath := filepath.Join(dir, IndexName)
	text, err := os.ReadFile(indexPath)
	if errors.Is(err, os.ErrNotExist) {
		return openSingle(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("safetensors index: %w", err)
	}
	shards, err := parseIndex(text)
	if err != nil {
		return nil, fmt.Errorf("safetensors index %s: %w", indexPath, err)
	}
	d := &Folder{dir: dir, where: map[string]*File{}}
	if err := d.open(shards); err != nil {
		return nil, errors.Join(fmt.Errorf("safetensors index %s: %w", indexPath, err), d.Close())
	}
	return d, nil
}

func openSingle(dir string) (Tensors, error) {
	f, err := Open(filepath.Join(dir, SingleName))
	if !errors.Is(err, os.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	shards, globErr := filepath.Glob(filepath.Join(dir, "model-*-of-*.safetensors"))
	if globErr != nil || len(shards) == 0 {
		return nil, fmt.Errorf("%w (and no %s)", err, IndexName)
	}
	return nil, fmt.Errorf("safetensors: %s holds %d shards (%s, ...) but no %s: copy the index too",
		dir, len(shards), filepath.Base(shards[0]), IndexName)
}

// parseIndex returns the tensors of each shard.
func parseIndex(text []byte) (map[string][]string, error) {
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("%w%s", err, lookalike(bytes.TrimSpace(text)))
	}
	if len(index.WeightMap) == 0 {
		return nil, errors.New("weight_map is missing or empty")
	}
	shards := map[string][]string{}
	for tensor, shard := range index.WeightMap {
		if !filepath.IsLocal(shard) || strings.ContainsAny(shard, `/\`) {
			return nil, fmt.Errorf("tensor %q is said to be in %q, which is not a file of this folder", tensor, shard)
		}
		shards[shard] = append(shards[shard], tensor)
	}
	return shards, nil
}

func (d *Folder) open(shards map[string][]string) error {
	names := make([]string, 0, len(shards))
	for name := range shards {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, shard := range names {
		f, err := Open(filepath.Join(d.dir, shard))
		if err != nil {
			return err
		}
		d.files = append(d.files, f)
		sort.Strings(shards[shard])
		for _, tensor := range shards[shard] {
			if _, ok := f.Info(tensor); !ok {
				return fmt.Errorf("tensor %q is not in %s, where the index says it is", tensor, shard)
			}
			d.where[tensor] = f
			d.names = append(d.names, tensor)
		}
	}
	sort.Strings(d.names)
	return nil
}

// Names implements Tensors.
func (d *Folder) Names() []string { return append([]string(nil), d.names...) }

// Info implements Tensors.
func (d *Folder) Info(name string) (Info, bool) {
	f, ok := d.where[name]
	if !ok {
		return Info{}, false
	}
	return f.Info(name)
}

// Bytes implements Tensors.
func (d *Folder) Bytes(name string) ([]byte, error) {
	f, ok := d.where[name]
	if !ok {
		return nil, fmt.Errorf("safetensors %s: no tensor %q", d.dir, name)
	}
	return f.Bytes(name)
}

// Float32 implements Tensors.
func (d *Folder) Float32(dst []float32, name string) ([]float32, error) {
	f, ok := d.where[name]
	if !ok {
		return dst, fmt.Errorf("safetensors %s: no tensor %q", d.dir, name)
	}
	return f.Float32(dst, name)
}

// Close implements Tensors.
func (d *Folder) Close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
