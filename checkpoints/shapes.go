package checkpoints

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// modelConfig holds the keys of config.json that fix shapes, in the spellings of the families.
type modelConfig struct {
	Hidden int `json:"hidden_size"`
	Layers int `json:"num_hidden_layers"`
	Vocab  int `json:"vocab_size"`

	DModel    int `json:"d_model"` // LLaDA
	NLayers   int `json:"n_layers"`
	Embedding int `json:"embedding_size"`
}

// verifyConfig compares the tensors' shapes with config.json and adapter_config.json.
func (r *Report) verifyConfig(s *Snapshot) {
	var c modelConfig
	text, ok := s.Files[ModelConfigName]
	if !ok {
		r.Notes = append(r.Notes, "there is no config.json to compare shapes with")
	} else if err := json.Unmarshal(text, &c); !r.add(err, "config.json can be read") {
		ok = false
	}
	if c.Hidden == 0 {
		c.Hidden, c.Layers, c.Vocab = c.DModel, c.NLayers, max(c.Embedding, c.Vocab)
	}
	if s.Adapter != nil {
		r.add(s.checkAdapter(c), "adapters come in pairs of rank %s that fit the model's width", s.Adapter.ranks())
	} else if ok {
		r.add(s.checkModel(c), "shapes fit config.json: width %d, %d layers, %d tokens", c.Hidden, c.Layers, c.Vocab)
	}
}

func (s *Snapshot) checkModel(c modelConfig) error {
	layers := map[int]bool{}
	for _, t := range s.Tensors {
		if i, ok := layerOf(t.Name); ok {
			layers[i] = true
		}
		var err error
		switch {
		case strings.HasSuffix(t.Name, "embed_tokens.weight"), strings.HasSuffix(t.Name, "wte.weight"):
			if len(t.Shape) != 2 || t.Shape[1] != c.Hidden || t.Shape[0] < c.Vocab {
				err = fmt.Errorf("want [%d or more, %d]", c.Vocab, c.Hidden)
			}
		case strings.HasSuffix(t.Name, "layernorm.weight"), strings.HasSuffix(t.Name, "model.norm.weight"):
			if len(t.Shape) != 1 || t.Shape[0] != c.Hidden {
				err = fmt.Errorf("want [%d]", c.Hidden)
			}
		case strings.HasSuffix(t.Name, "q_proj.weight"), strings.HasSuffix(t.Name, "gate_proj.weight"):
			if len(t.Shape) != 2 || t.Shape[1] != c.Hidden {
				err = fmt.Errorf("want [*, %d]", c.Hidden)
			}
		case strings.HasSuffix(t.Name, "o_proj.weight"), strings.HasSuffix(t.Name, "down_proj.weight"):
			if len(t.Shape) != 2 || t.Shape[0] != c.Hidden {
				err = fmt.Errorf("want [%d, *]", c.Hidden)
			}
		}
		if err != nil {
			return fmt.Errorf("tensor %q has shape %v: %w", t.Name, t.Shape, err)
		}
	}
	for i := range c.Layers {
		if !layers[i] {
			return fmt.Errorf("layer %d of %d has no tensors", i, c.Layers)
		}
	}
	if len(layers) != c.Layers {
		return fmt.Errorf("tensors of %d layers, config.json has %d", len(layers), c.Layers)
	}
	return nil
}

// layerOf returns N of "layers.N." or "blocks.N.".
func layerOf(name string) (int, bool) {
	for _, mark := range []string{"layers.", "blocks."} {
		if _, rest, ok := strings.Cut(name, mark); ok {
			digits, _, _ := strings.Cut(rest, ".")
			i, err := strconv.Atoi(digits)
			return i, err == nil && i >= 0
		}
	}
	return 0, false
}

func (s *Snapshot) checkAdapter(c modelConfig) error {
	shapes := map[string][]int{}
	for _, t := range s.Tensors {
		shapes[t.Name] = t.Shape
	}
	for _, t := range s.Tensors {
		module, isA := strings.CutSuffix(t.Name, ".lora_A.weight")
		if !isA {
			module = strings.TrimSuffix(t.Name, ".lora_B.weight")
		}
		a, b := shapes[module+".lora_A.weight"], shapes[module+".lora_B.weight"]
		rank, err := s.Adapter.rank(strings.TrimPrefix(module, "base_model.model."))
		if err != nil {
			return err
		}
		if len(a) != 2 || len(b) != 2 || a[0] != rank || b[1] != rank {
			return fmt.Errorf("module %q: lora_A %v and lora_B %v, want [%d, in] and [out, %d]", module, a, b, rank, rank)
		}
		if strings.HasSuffix(module, "q_proj") && c.Hidden != 0 && a[1] != c.Hidden {
			return fmt.Errorf("module %q: lora_A %v, but the model's width is %d", module, a, c.Hidden)
		}
	}
	return nil
}
