package backbone

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// Targets are the linears that LoRA adapts where a run names none.
var Targets = []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

// AllLinear among LoRAConfig.Targets stands for all of them.
const AllLinear = "all-linear"

// Module returns rank and alpha of a module, given its name without the adapter's prefix, such as
// layers.0.self_attn.q_proj, and the factor of its adapter: alpha/r, or alpha/sqrt(r) for rsLoRA (Kalajdzievski 2023).
func (c *LoRAConfig) Module(name string) (rank int, alpha, scale float64) {
	rank, alpha = c.Rank, c.Alpha
	for pattern, r := range c.RankPattern {
		if matches(pattern, name) {
			rank = r
		}
	}
	for pattern, a := range c.AlphaPattern {
		if matches(pattern, name) {
			alpha = a
		}
	}
	if c.RSLoRA {
		return rank, alpha, alpha / math.Sqrt(float64(rank))
	}
	return rank, alpha, alpha / float64(rank)
}

// matches compares a name with a pattern as PEFT does.
func matches(pattern, name string) bool {
	e, err := compiled(pattern)
	return err == nil && e.MatchString(name)
}

func compiled(pattern string) (*regexp.Regexp, error) {
	return regexp.Compile(`^(?:.*\.)?(?:` + pattern + `)$`)
}

func (c *LoRAConfig) check() error {
	switch {
	case c.Rank < 1:
		return fmt.Errorf("model.lora.rank: %d, want at least 1", c.Rank)
	case !(c.Alpha > 0):
		return fmt.Errorf("model.lora.alpha: %v, want more than 0", c.Alpha)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return fmt.Errorf("model.lora.dropout: %v, want 0 or more and less than 1", c.Dropout)
	}
	for _, t := range c.Targets {
		if t != AllLinear && !slices.Contains(Targets, t) {
			return fmt.Errorf("model.lora.targets: %q, want some of %s, or %s", t, strings.Join(Targets, ", "), AllLinear)
		}
	}
	return nil
}

func (c *LoRAConfig) adapts(part string) bool {
	return len(c.Targets) == 0 || slices.Contains(c.Targets, part) || slices.Contains(c.Targets, AllLinear)
}

// checkPatterns refuses patterns that are no regular expressions, that no adapted module matches, and two of different
// value that one module matches: PEFT takes the first of a file, and a run file's names have no order.
func (a *Architecture) checkPatterns(c *LoRAConfig) error {
	values := map[string]map[string]float64{"rank_pattern": {}, "alpha_pattern": c.AlphaPattern}
	for pattern, r := range c.RankPattern {
		values["rank_pattern"][pattern] = float64(r)
	}
	var modules []string
	for i := range a.Layers {
		for _, p := range a.projections() {
			for _, part := range p.parts {
				if c.adapts(part) {
					modules = append(modules, a.module(i, p, part))
				}
			}
		}
	}
	for key, patterns := range values {
		chosen := map[string]string{} // pattern of each module
		for _, pattern := range slices.Sorted(maps.Keys(patterns)) {
			if _, err := compiled(pattern); err != nil {
				return fmt.Errorf("model.lora.%s: %q: %w", key, pattern, err)
			}
			used := false
			for _, m := range modules {
				if !matches(pattern, m) {
					continue
				}
				used = true
				if other, ok := chosen[m]; ok && patterns[other] != patterns[pattern] {
					return fmt.Errorf("model.lora.%s: %s matches %q (%v) and %q (%v), want one value", key, m, other, patterns[other], pattern, patterns[pattern])
				}
				chosen[m] = pattern
			}
			if !used {
				return fmt.Errorf("model.lora.%s: %q matches none of the adapted modules, such as %s", key, pattern, modules[0])
			}
			if v := patterns[pattern]; !(v > 0) {
				return fmt.Errorf("model.lora.%s: %q: %v, want more than 0", key, pattern, v)
			}
		}
	}
	return nil
}

// module is the name of part of a projection in a layer, as PEFT matches patterns with it.
func (a *Architecture) module(layer int, p projection, part string) string {
	return strings.TrimPrefix(a.name(fmt.Sprintf("model.layers.%d.%s.%s", layer, p.module, part)), "model.")
}

// parts returns the adapters of a layer's fused linear, none if no target is in it, and the factor that they all have;
// where they differ that is 1 and each part has its own.
func (a *Architecture) parts(c *LoRAConfig, layer int, p projection) (out ops.Parts, common float32) {
	offset, same := 0, true
	for i, part := range p.parts {
		if c.adapts(part) {
			rank, _, scale := c.Module(a.module(layer, p, part))
			out = append(out, ops.Part{Offset: offset, Width: p.widths[i], Rank: rank, Scale: float32(scale)})
			same = same && out[0].Scale == float32(scale)
		}
		offset += p.widths[i]
	}
	if !same || len(out) == 0 {
		return out, 1
	}
	common = out[0].Scale
	for i := range out {
		out[i].Scale = 1
	}
	return out, common
}

// adapters lists the adapters' tensors in tensor order, named as PEFT names them over the encoder class. The A of a
// fused linear lie one after another, then its B.
func (a *Architecture) adapters(c *LoRAConfig) []group {
	var out []group
	for i := range a.Layers {
		for _, p := range a.projections() {
			parts, _ := a.parts(c, i, p)
			if len(parts) == 0 {
				continue
			}
			down := group{key: fmt.Sprintf("%d.%s.A", i, p.key), shape: []int{parts.Ranks(), p.in}}
			rows, columns := parts.Shape()
			up := group{key: fmt.Sprintf("%d.%s.B", i, p.key), shape: []int{rows, columns}}
			for j, part := range p.parts {
				if !c.adapts(part) {
					continue
				}
				name := a.module(i, p, part)
				rank, _, _ := c.Module(name)
				down.members = append(down.members, tensor{"base_model.model." + name + ".lora_A.weight", []int{rank, p.in}})
				up.members = append(up.members, tensor{"base_model.model." + name + ".lora_B.weight", []int{p.widths[j], rank}})
			}
			out = append(out, down, up)
		}
	}
	return out
}

// Sites of Philox in a backbone. Dropout uses small numbers, one per fused linear.
const (
	siteAdapters = 0xAD000000 // + index of the tensor
	siteWeights  = 0xBE000000
)

// uniform fills dst with numbers in [-bound, bound) of a site: element e is word e%4 of block e/4.
func uniform(dst []float32, seed uint64, site uint32, bound float64) {
	words := make([]uint32, len(dst))
	philox.Fill(words, philox.NewKey(seed, site), philox.Counter{})
	for i, w := range words {
		u := float64(2*philox.Float(w) - 1) // exact
		dst[i] = float32(u * bound)
	}
}

// initAdapter is PEFT's: A uniform within 1/sqrt(in) (Kaiming, a = sqrt 5), B zero.
func initAdapter(g group, dst []float32, seed uint64, index int) {
	if strings.HasSuffix(g.key, ".B") {
		clear(dst)
		return
	}
	uniform(dst, seed, siteAdapters+uint32(index), 1/math.Sqrt(float64(g.shape[1])))
}
