package trainer

import (
	"math/rand/v2"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
	"github.com/counterpoint-ml/counterpoint/trainer/engine"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/optim"
)

// counted is a device that counts the memory it hands out.
type counted struct {
	*cpu.Device
	arenas, allocs int
}

func (c *counted) Alloc(bytes int64) (engine.Memory, error) {
	c.allocs++
	return c.Device.Alloc(bytes)
}

func (c *counted) Arena(bytes int64) (engine.Memory, error) {
	c.arenas++
	return c.Device.Arena(bytes)
}

// After the first step of a bucket no memory is asked of the device any more, kept activations or not; of Go's heap only
// what loops on several goroutines take, about one closure a kernel.
func TestStepsTakeNoMemory(t *testing.T) {
	for name, keep := range map[string]int64{"kept": 1 << 30, "computed again": 0} {
		for _, kind := range []string{contrastive.InfoNCEKind, contrastive.CausalLM} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				dev, err := cpu.New(1)
				if err != nil {
					t.Fatal(err)
				}
				defer dev.Close()
				count := &counted{Device: dev}
				config := Config{
					Model:     backbone.Config{Preset: "tiny-diffusion", LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8, Dropout: 0.1}},
					Loss:      contrastive.Config{Kind: kind, Temperature: 0.05},
					Optimizer: optim.Config{Schedule: optim.Schedule{Peak: 1e-4, Decay: optim.Constant}},
					Steps:     100,
				}
				base, err := backbone.Load(config.Model, 1)
				if err != nil {
					t.Fatal(err)
				}
				defer base.Close()
				tr, err := New(config, base, count, Options{Keep: keep})
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Free()
				r := rand.New(rand.NewPCG(1, 1))
				h := data.Header{Queries: 12, Slots: 24}
				var texts []data.Text
				for i := range h.Slots {
					if i >= h.Queries {
						h.Docs = append(h.Docs, uint64(i))
					}
					ids := make([]int32, 8+r.IntN(24))
					for j := range ids {
						ids[j] = int32(4 + r.IntN(4000))
					}
					h.Divisor += float64(len(ids) - 1)
					texts = append(texts, data.Text{Slot: int32(i), Row: int64(i % h.Queries), Role: data.Role(i / h.Queries), Tokens: ids})
				}
				shards := pack(&h, texts, 128)
				step := func() {
					if _, err := tr.Step(t.Context(), h, tr.Steps(), NewSolo(tr, shards, h.Slots)); err != nil {
						t.Fatal(err)
					}
				}
				step()
				step()
				arenas, allocs := count.arenas, count.allocs
				if arenas == 0 {
					t.Fatal("no arena was asked for: this test sees nothing")
				}
				heap := testing.AllocsPerRun(5, step)
				if count.arenas != arenas || count.allocs != allocs {
					t.Errorf("six more steps took %d arenas and %d other memories, want none", count.arenas-arenas, count.allocs-allocs)
				}
				t.Logf("%v allocations a step of %d shards", heap, len(shards))
				if most := float64(100 + 150*len(shards)); heap > most {
					t.Errorf("%v allocations a step of %d shards, want at most %v", heap, len(shards), most)
				}
			})
		}
	}
}
