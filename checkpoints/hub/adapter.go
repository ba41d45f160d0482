package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

// Adapter is a LoRA adapter as PEFT saves it: adapter_config.json and adapter_model.safetensors.
type Adapter struct {
	Base string // base_model_name_or_path as it is written; of a checkpoint over a merged base, the base before

	dir         string
	config      string // names of the files
	weights     string
	rank        int
	alpha       float64
	rsLoRA      bool
	rankPattern []pattern
	alphPattern []pattern
	tensors     *safetensors.File
	modules     []module
	replaced    map[string]string // path of a tensor that is stored whole -> its key
}

// module is one adapted linear: W += scale * B A.
type module struct {
	path  string // without base_model.model.
	a, b  string // keys
	rank  int
	scale float64
}

// pattern is an entry of rank_pattern or alpha_pattern.
type pattern struct {
	key   string
	match *regexp.Regexp
	value float64
}

// adapterConfig holds the keys of adapter_config.json that change what is computed. Others are tolerated: every
// version of PEFT adds some.
type adapterConfig struct {
	Type         string          `json:"peft_type"`
	Base         string          `json:"base_model_name_or_path"`
	Rank         int             `json:"r"`
	Alpha        float64         `json:"lora_alpha"`
	RSLoRA       bool            `json:"use_rslora"`
	RankPattern  json.RawMessage `json:"rank_pattern"`
	AlphaPattern json.RawMessage `json:"alpha_pattern"`
}

// unsupported are switches of adapter_config.json that make an adapter something else than W + scale B A.
var unsupported = []string{
	"use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out", "alora_invocation_tokens", "layer_replication",
	"trainable_token_indices", "target_parameters", "arrow_config", "kasa_config", "velora_config",
}

const root = "base_model.model."

// OpenAdapter opens an adapter's folder. Close it.
func OpenAdapter(dir string) (*Adapter, error) {
	return openAdapter(dir, checkpoints.AdapterConfigName, checkpoints.AdapterName)
}

func openAdapter(dir, config, weights string) (*Adapter, error) {
	a := &Adapter{dir: dir, config: config, weights: weights, replaced: map[string]string{}}
	if err := a.readConfig(filepath.Join(dir, config)); err != nil {
		return nil, err
	}
	var err error
	path := filepath.Join(dir, weights)
	if a.tensors, err = safetensors.Open(path); errors.Is(err, fs.ErrNotExist) {
		if _, stat := os.Stat(filepath.Join(dir, "adapter_model.bin")); stat == nil {
			return nil, fmt.Errorf("adapter %s: adapter_model.bin is a pickle, which is not read: save it again with safe_serialization=True", dir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("adapter %s: %w", dir, err)
	}
	if err := a.readModules(); err != nil {
		return nil, errors.Join(fmt.Errorf("adapter %s: %w", path, err), a.Close())
	}
	return a, nil
}

// Close closes the file.
func (a *Adapter) Close() error { return a.tensors.Close() }

func (a *Adapter) readConfig(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("adapter: %w", err)
	}
	var c adapterConfig
	var all map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(text, &c), json.Unmarshal(text, &all)); err != nil {
		return fmt.Errorf("adapter %s: %w", path, err)
	}
	if c.Type != "LORA" {
		return fmt.Errorf("adapter %s: peft_type: %q, only LORA is supported", path, c.Type)
	}
	for _, key := range unsupported {
		switch v := string(all[key]); v {
		case "", "null", "false", "[]", "{}":
		default:
			return fmt.Errorf("adapter %s: %s: %.40s is not supported", path, key, v)
		}
	}
	if c.Rank < 1 {
		return fmt.Errorf("adapter %s: r: %d, want at least 1", path, c.Rank)
	}
	a.Base, a.rank, a.alpha, a.rsLoRA = strings.TrimSuffix(c.Base, mergedNote), c.Rank, c.Alpha, c.RSLoRA
	if a.rankPattern, err = parsePatterns(c.RankPattern); err != nil {
		return fmt.Errorf("adapter %s: rank_pattern: %w", path, err)
	}
	if a.alphPattern, err = parsePatterns(c.AlphaPattern); err != nil {
		return fmt.Errorf("adapter %s: alpha_pattern: %w", path, err)
	}
	return nil
}

// parsePatterns reads an object in the order of the file: the first key that matches a module decides.
func parsePatterns(text json.RawMessage) ([]pattern, error) {
	if t := string(bytes.TrimSpace(text)); t == "" || t == "null" {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("%.40s is not an object", text)
	}
	var out []pattern
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		p := pattern{key: fmt.Sprint(token)}
		if err := d.Decode(&p.value); err != nil {
			return nil, fmt.Errorf("%q: %w", p.key, err)
		}
		if p.match, err = regexp.Compile(`^(.*\.)?(` + p.key + `)$`); err != nil {
			return nil, fmt.Errorf("%q: %w", p.key, err)
		}
		out = append(out, p)
	}
	return out, nil
}

func lookUp(patterns []pattern, path string, common float64) float64 {
	for _, p := range patterns {
		if p.match.MatchString(path) {
			return p.value
		}
	}
	return common
}

// readModules pairs the file's tensors.
func (a *Adapter) readModules() error {
	for _, key := range a.tensors.Names() {
		path, ok := strings.CutPrefix(key, root)
		if !ok {
			return fmt.Errorf("tensor %q does not begin with %q", key, root)
		}
		if strings.HasSuffix(path, ".lora_B.weight") {
			other := strings.TrimSuffix(key, ".lora_B.weight") + ".lora_A.weight"
			if _, ok := a.tensors.Info(other); !ok {
				return fmt.Errorf("tensor %q is there without %q", key, other)
			}
			continue
		}
		if name, ok := strings.CutSuffix(path, ".lora_A.weight"); ok {
			m := module{path: name, a: key, b: root + name + ".lora_B.weight"}
			if err := a.scale(&m); err != nil {
				return err
			}
			a.modules = append(a.modules, m)
			continue
		}
		if strings.Contains(path, "lora_") {
			return fmt.Errorf("tensor %q is not of a plain LoRA, which has lora_A.weight and lora_B.weight", key)
		}
		a.replaced[strings.Replace(path, ".base_layer.", ".", 1)] = key // modules_to_save, trained biases
	}
	if len(a.modules) == 0 {
		return errors.New("no lora_A.weight in it")
	}
	return nil
}

// scale fills rank and scale: alpha/r, or alpha/sqrt(r) for rsLoRA (Kalajdzievski 2023). Rank and alpha are looked up
// apart, so a module whose rank alone is changed keeps the common alpha.
func (a *Adapter) scale(m *module) error {
	down, _ := a.tensors.Info(m.a)
	up, ok := a.tensors.Info(m.b)
	if !ok {
		return fmt.Errorf("tensor %q is there without %q", m.a, m.b)
	}
	if len(down.Shape) != 2 || len(up.Shape) != 2 || down.Shape[0] != up.Shape[1] {
		return fmt.Errorf("%s is %v and %s is %v, want [r, in] and [out, r]", m.a, down.Shape, m.b, up.Shape)
	}
	m.rank = int(lookUp(a.rankPattern, m.path, float64(a.rank)))
	if m.rank != down.Shape[0] {
		return fmt.Errorf("%s is %v, but %s gives it the rank %d", m.a, down.Shape, a.config, m.rank)
	}
	alpha := lookUp(a.alphPattern, m.path, a.alpha)
	if m.scale = alpha / float64(m.rank); a.rsLoRA {
		m.scale = alpha / math.Sqrt(float64(m.rank))
	}
	return nil
}

// BaseFolder returns the folder that the adapter's base is in: the path as it is written, or relative to the adapter's
// folder.
func (a *Adapter) BaseFolder() (string, error) {
	if a.Base == "" {
		return "", fmt.Errorf("adapter %s names no base_model_name_or_path: give the folder of its base", a.dir)
	}
	tried := []string{filepath.Join(a.dir, a.Base), a.Base}
	if filepath.IsAbs(a.Base) {
		tried = []string{a.Base}
	}
	for _, dir := range tried {
		if _, err := os.Stat(filepath.Join(dir, checkpoints.ModelConfigName)); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("adapter %s is over the base %q: %w: no %s in %s; say where its folder is (--base FOLDER; nothing is downloaded)",
		a.dir, a.Base, fs.ErrNotExist, checkpoints.ModelConfigName, strings.Join(tried, " or "))
}

// Over returns base with the adapter merged into it, computed tensor by tensor when it is read. Closing it closes the
// base too.
func (a *Adapter) Over(base safetensors.Tensors) (*Merged, error) {
	out := &Merged{Tensors: base, adapter: a, modules: map[string]*module{}, replaced: map[string]string{}}
	for i := range a.modules {
		m := &a.modules[i]
		name, err := find(base, m.path+".weight", m.a)
		if err != nil {
			return nil, fmt.Errorf("adapter %s: %w", a.dir, err)
		}
		down, _ := a.tensors.Info(m.a)
		up, _ := a.tensors.Info(m.b)
		info, _ := base.Info(name)
		if want := []int{up.Shape[0], down.Shape[1]}; !slices.Equal(info.Shape, want) {
			return nil, fmt.Errorf("adapter %s: B A of %s is %v, but %s of the base is %v: it is an adapter of another model", a.dir, m.path, want, name, info.Shape)
		}
		if out.modules[name] != nil {
			return nil, fmt.Errorf("adapter %s: %s and %s are both of %s", a.dir, m.a, out.modules[name].a, name)
		}
		out.modules[name] = m
	}
	for path, key := range a.replaced {
		name, err := find(base, path, key)
		if err != nil {
			return nil, fmt.Errorf("adapter %s: %w", a.dir, err)
		}
		have, _ := base.Info(name)
		got, _ := a.tensors.Info(key)
		if !slices.Equal(have.Shape, got.Shape) {
			return nil, fmt.Errorf("adapter %s: %s is %v, but %s of the base is %v", a.dir, key, got.Shape, name, have.Shape)
		}
		out.replaced[name] = key
	}
	return out, nil
}

// find resolves a module's path: adapters saved over the encoder class lack the "model." that the language model's
// paths, and most files, begin with.
func find(base safetensors.Tensors, path, key string) (string, error) {
	for _, name := range []string{path, "model." + path, strings.TrimPrefix(path, "model.")} {
		if _, ok := base.Info(name); ok {
			return name, nil
		}
	}
	like := "nothing like it"
	tail := path[strings.LastIndex(strings.TrimSuffix(path, ".weight"), ".")+1:]
	for _, name := range base.Names() {
		if strings.HasSuffix(name, tail) {
			like = name
			break
		}
	}
	return "", fmt.Errorf("tensor %q is of the module %q, which the base does not have (it has %s): wrong prefix, or an adapter of another model", key, strings.TrimSuffix(path, ".weight"), like)
}
