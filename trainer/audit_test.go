package trainer

import (
	"context"
	"iter"
	"math"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/contrastive"
)

// checking is Solo with an audit of every shard: each is given a second time, for its digest alone.
type checking struct {
	*Solo
	only   bool
	first  map[int]string
	second map[int]string
}

func (c *checking) Audit(int) (digest, only bool) { return true, c.only }

func (c *checking) Leased(ctx context.Context, phase Phase) iter.Seq2[*data.Shard, error] {
	return func(yield func(*data.Shard, error) bool) {
		for s, err := range c.Solo.Leased(ctx, phase) {
			if !yield(s, err) {
				return
			}
			if phase != Backward {
				continue
			}
			c.only = true
			if !yield(s, nil) {
				return
			}
			c.only = false
		}
	}
}

func (c *checking) Done(ctx context.Context, done Done) (bool, error) {
	if c.only {
		c.second[done.Shard] = done.Digest
		return false, nil
	}
	c.first[done.Shard] = done.Digest
	return c.Solo.Done(ctx, done)
}

// A shard that is computed for its digest alone has the digest of the one that is added, with kept activations or without,
// and changes nothing; a gradient with one flipped bit has another.
func TestAuditedShards(t *testing.T) {
	for _, kind := range []string{contrastive.InfoNCEKind, contrastive.MaskedDiffusion} {
		t.Run(kind, func(t *testing.T) {
			seed := seeded(t)
			config := testConfig(kind)
			config.Model, config.Steps = backbone.Config{Preset: "tiny-diffusion", LoRA: &backbone.LoRAConfig{Rank: 4, Alpha: 8, Dropout: 0.1}}, 3
			want := alone(t, onCPU(t, config, 1, Options{}), seed, kind)
			tr := onCPU(t, config, 2, Options{Keep: 1 << 30})
			for step := range config.Steps {
				header, shards := stepBatch(seed, kind, step)
				c := &checking{Solo: NewSolo(tr, shards, header.Slots), first: map[int]string{}, second: map[int]string{}}
				o, err := tr.Step(t.Context(), header, step, c)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, "a step of which every shard is audited", o, want[step])
				for shard, digest := range c.first {
					if digest == "" || c.second[shard] != digest {
						t.Errorf("step %d, shard %d: digests %s and %s", step, shard, digest, c.second[shard])
					}
				}
				if len(c.first) != len(shards) {
					t.Errorf("%d of %d shards have digests", len(c.first), len(shards))
				}
			}
		})
	}
}

// lapse is a model that flips one bit of the gradient of one shard, once.
type lapse struct {
	model
	calls, at int
}

func (l *lapse) EmbedBackward(b backbone.Batch, dE, grad []float32, a activations) error {
	err := l.model.EmbedBackward(b, dE, grad, a)
	if l.calls++; l.calls == l.at {
		for i, g := range grad {
			if g != 0 {
				grad[i] = math.Float32frombits(math.Float32bits(g) ^ 1<<22)
				break
			}
		}
	}
	return err
}

func TestFlippedGradientHasAnotherDigest(t *testing.T) {
	seed := seeded(t)
	kind := contrastive.InfoNCEKind
	tr, _ := newTest(t, kind, Options{})
	tr.model = &lapse{model: tr.model, at: 3}
	header, shards := stepBatch(seed, kind, 0)
	c := &checking{Solo: NewSolo(tr, shards, header.Slots), first: map[int]string{}, second: map[int]string{}}
	if _, err := tr.Step(t.Context(), header, 0, c); err != nil {
		t.Fatal(err)
	}
	differ := 0
	for shard, digest := range c.first {
		if c.second[shard] != digest {
			differ++
		}
	}
	if differ != 1 {
		t.Errorf("%d of %d shards have two digests, want the one whose gradient was changed", differ, len(shards))
	}
}
