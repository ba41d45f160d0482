package backbone

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/counterpoint-ml/counterpoint/trainer/ops"
	"github.com/counterpoint-ml/counterpoint/trainer/philox"
)

// Targets are the linears that LoRA adapts where a run names none.
var Targets = []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

// Scale returns the factor of the adapters: alpha/r, or alpha/sqrt(r) for rsLoRA (Kalajdzievski 2023).
func (c *LoRAConfig) Scale() float64 {
	if c.RSLoRA {
		return c.Alpha / math.Sqrt(float64(c.Rank))
	}
	return c.Alpha / float64(c.Rank)
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
		if !slices.Contains(Targets, t) {
			return fmt.Errorf("model.lora.targets: %q, want some of %s", t, strings.Join(Targets, ", "))
		}
	}
	return nil
}

func (c *LoRAConfig) adapts(part string) bool {
	return len(c.Targets) == 0 || slices.Contains(c.Targets, part)
}

// parts returns the adapted parts of a fused linear; none if no target is in it.
func (c *LoRAConfig) parts(p projection) ops.Parts {
	out := ops.Parts{Rank: c.Rank}
	offset := 0
	for i, part := range p.parts {
		if c.adapts(part) {
			out.Parts = append(out.Parts, ops.Part{Offset: offset, Width: p.widths[i]})
		}
		offset += p.widths[i]
	}
	return out
}

// adapters lists the adapters' tensors in tensor order, named as PEFT names them over the encoder class. The A of a
// fused linear lie one after another, then its B.
func (a *Architecture) adapters(c *LoRAConfig) []group {
	var out []group
	for i := range a.Layers {
		for _, p := range a.projections() {
			down := group{key: fmt.Sprintf("%d.%s.A", i, p.key)}
			up := group{key: fmt.Sprintf("%d.%s.B", i, p.key)}
			rows := 0
			for j, part := range p.parts {
				if !c.adapts(part) {
					continue
				}
				module := a.name(fmt.Sprintf("model.layers.%d.%s.%s", i, p.module, part))
				prefix := "base_model.model." + strings.TrimPrefix(module, "model.")
				down.members = append(down.members, tensor{prefix + ".lora_A.weight", []int{c.Rank, p.in}})
				up.members = append(up.members, tensor{prefix + ".lora_B.weight", []int{p.widths[j], c.Rank}})
				rows += p.widths[j]
			}
			if len(down.members) > 0 {
				down.shape, up.shape = []int{len(down.members) * c.Rank, p.in}, []int{rows, c.Rank}
				out = append(out, down, up)
			}
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
