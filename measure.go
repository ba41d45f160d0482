package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/backbone"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
	"github.com/counterpoint-ml/counterpoint/trainer/fixed"
)

// measured is what a run takes on this machine.
type measured struct {
	architecture     backbone.Architecture
	total, trainable int64 // parameters

	base   int64 // bytes of the process before a model is loaded
	frozen int64 // bytes of the weights that do not train

	why             string // there are no figures below, and why
	embed, backward int64  // bytes of the activations of the largest shard
	arenas          int64  // bytes of the activations of a step, on all local workers
	threads         int    // of all local workers
	tokens          int64  // of the largest step that was run
	constant        float64
	token           float64 // seconds: a step of n tokens takes constant + n token
	wire            float64 // bytes of a packed gradient value
}

// patience is how long the steps that are measured may take together, about.
const patience = 1500 * time.Millisecond

// measure runs small steps of the run's model and data with as many threads as all local workers have.
func (p *prepared) measure(header data.Header) (*measured, error) {
	c := p.config.Trainer()
	debug.FreeOSMemory() // what preparing took
	resident := processMemory()
	base, err := backbone.Load(c.Model, c.Seed)
	if err != nil {
		return nil, err
	}
	defer debug.FreeOSMemory() // the run begins with as little
	defer base.Close()
	m := &measured{base: resident, architecture: base.Architecture, threads: p.threads() * max(p.config.Cluster.Workers, 1)}
	m.total, m.trainable = base.Sizes(c.Model, !c.Loss.Embeds())
	m.frozen = base.Frozen(c.Model, !c.Loss.Embeds())
	if need, have := m.resident(1), machineMemory(); p.config.Cluster.Workers > 0 && need > have {
		return nil, fmt.Errorf("a worker needs %s for weights, moments and gradients; this machine has %s: train an adapter (model.lora), take a smaller model, or set cluster.workers: 0 here and let larger machines join",
			size(float64(need)), size(float64(have)))
	}
	// Only now does memory grow.
	if free := 2 * keepBytes(1); m.resident(1) > free*3/4 {
		m.why = fmt.Sprintf("not measured: it would take %s of the %s that are free now", size(float64(m.resident(1))), size(float64(free)))
		return m, nil
	}
	dev, err := cpu.New(m.threads)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	t, err := trainer.New(c, base, dev, trainer.Options{Keep: keepBytes(1), Pool: dev.Pool()})
	if err != nil {
		return nil, err
	}
	defer t.Free()
	largest := slices.Index(header.Tokens, slices.Max(header.Tokens))
	shards, err := p.set.Shards(0, []int{largest})
	if err != nil {
		return nil, err
	}
	if m.embed, m.backward, err = t.Bytes(shards[0].Tokens(), len(shards[0].Texts)); err != nil {
		return nil, err
	}
	if err := p.arenas(t, m, header); err != nil {
		return nil, err
	}
	if err := p.steps(t, m); err != nil {
		m.why = "not measured: " + err.Error()
	}
	return m, nil
}

// steps runs real steps of batches that grow until they have taken long enough, and fits a line through the last two.
func (p *prepared) steps(t *trainer.Trainer, m *measured) error {
	order := p.order
	if most := int(2e9*float64(m.threads)*patience.Seconds()/float64(m.total)) + 8; order.MaxLength > most { // 6 flops a parameter and token
		order.MaxLength = most
	}
	type point struct{ tokens, seconds float64 }
	var points []point
	began := time.Now()
	for batch := min(2, order.Batch); ; batch = min(4*batch, p.order.Batch) {
		order.Batch, order.Group = batch, min(p.order.Group, batch)
		again := 1
		if len(points) == 0 {
			again = 2 // the first step compiles and packs weights
		}
		for range again {
			tokens, seconds, err := p.oneStep(t, order, m)
			if err != nil {
				return err
			}
			points = append(points, point{tokens, seconds})
		}
		m.tokens = int64(points[len(points)-1].tokens)
		last := points[len(points)-1].seconds
		if batch == p.order.Batch || time.Since(began).Seconds()+4*last > patience.Seconds() {
			break
		}
	}
	a, b := points[len(points)-2], points[len(points)-1]
	m.token = b.seconds / b.tokens
	if slope := (b.seconds - a.seconds) / (b.tokens - a.tokens); b.tokens > 1.5*a.tokens && slope > 0 && slope < m.token {
		m.token, m.constant = slope, b.seconds-slope*b.tokens
	}
	return nil
}

func (p *prepared) oneStep(t *trainer.Trainer, order data.Order, m *measured) (tokens, seconds float64, err error) {
	set, err := data.Open(p.config.Data, order, p.tok, filepath.Join(p.dir, "cache"), slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, 0, err
	}
	defer set.Close()
	header, err := set.Header(t.Steps())
	if err != nil {
		return 0, 0, err
	}
	indices := make([]int, len(header.Tokens))
	for i, n := range header.Tokens {
		indices[i] = i
		tokens += float64(n)
	}
	read, err := set.Shards(t.Steps(), indices)
	if err != nil {
		return 0, 0, err
	}
	shards := make([]*data.Shard, len(read))
	for i := range read {
		shards[i] = &read[i]
	}
	fleet := &meter{Solo: trainer.NewSolo(t, shards, header.Slots)}
	began := time.Now()
	_, err = t.Step(context.Background(), header, t.Steps(), fleet)
	seconds = time.Since(began).Seconds() - fleet.packing
	m.wire = fleet.bytes / float64(max(t.Size(), 1))
	return tokens, seconds, err
}

// meter is a fleet of one that also packs the gradient's sum as it would travel.
type meter struct {
	*trainer.Solo
	bytes, packing float64
}

// Reduce implements trainer.Fleet.
func (f *meter) Reduce(ctx context.Context, closing trainer.Closing, sum *fixed.Sum) (*fixed.Sum, error) {
	began := time.Now()
	const part = 96 << 10
	var packed []byte
	for part := range slices.Chunk(sum.Values, part) {
		packed = fixed.Pack(packed[:0], part)
		f.bytes += float64(len(packed))
	}
	f.packing = time.Since(began).Seconds()
	return f.Solo.Reduce(ctx, closing, sum)
}

// threads is the number of threads of a local worker.
func (p *prepared) threads() int {
	if n := p.config.Cluster.Threads; n > 0 {
		return n
	}
	return max(1, runtime.GOMAXPROCS(0)/max(p.config.Cluster.Workers, 1))
}
