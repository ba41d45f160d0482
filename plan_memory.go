package main

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/counterpoint-ml/counterpoint/data"
	"github.com/counterpoint-ml/counterpoint/trainer"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu/heap"
)

// What a process takes besides the run's own numbers, measured with a run of almost none: bytes.
const (
	fleetBytes   = 6 << 20  // coordinator, NATS server, Raft log, one worker's connection
	memberBytes  = 4 << 20  // each further worker
	threadBytes  = 2 << 20  // packing space of a thread: products, attention, reading
	writingBytes = 1 << 20  // buffers of a checkpoint in the writing
	logitBytes   = 16 << 20 // rows of a language objective's logits, at most
)

func (p *prepared) planMemory(s *sheet, m *measured, h data.Header) {
	n := p.workers()
	frozen := ""
	if m.trainable < m.total && n > 1 {
		frozen = " (frozen ones shared in a process)"
	}
	s.row("memory", "of a worker: weights %s%s, moments %s, gradients and their sums %s",
		size(float64(m.weights())), frozen, size(float64(m.moments())), size(float64(m.sums(n))))
	if m.why != "" {
		s.row("memory", "activations %s", m.why)
		return
	}
	if !p.config.Loss.Embeds() {
		s.row("memory", "activations of the largest shard %s", size(float64(m.backward)))
	} else {
		each := (len(h.Tokens) + n - 1) / n
		kept := min(each, int(keepBytes(n)/max(m.backward, 1)))
		line := "phase C computes every shard's forward pass again: activations do not fit"
		switch {
		case kept == each:
			line = "all kept from phase A to C: no second forward pass"
		case kept > 0:
			line = "those of " + plural(kept, "shard", "shards") + " of " + grouped(each) + " kept from phase A to C, the others computed again"
		}
		s.row("memory", "activations of the largest shard: %s to embed, %s for the backward pass; %s",
			size(float64(m.embed)), size(float64(m.backward)), line)
	}
	if p.config.Cluster.Workers > 0 {
		s.row("memory", "peak of this process about %s: activations %s, a checkpoint's copy %s, the program itself %s",
			size(float64(p.peak(m, h))), size(float64(m.arenas)), size(float64(m.copies(n))), size(float64(m.base+fleetBytes)))
	}
}

// peak is the most memory that this process will take, in bytes: what the system counts as resident.
func (p *prepared) peak(m *measured, h data.Header) int64 {
	n := int64(p.workers())
	alive := m.frozen + n*(m.own()+m.sums(int(n))) + m.copies(int(n)) + p.exchanged(m, h)
	outside := m.arenas + m.base + fleetBytes + (n-1)*memberBytes + n*int64(p.threads())*threadBytes + writingBytes
	return alive + heap.Garbage(alive+fleetBytes) + outside
}

// exchanged are the rows of a step: each worker's copy of all embeddings, their gradient, and the loss over them.
func (p *prepared) exchanged(m *measured, h data.Header) int64 {
	if h.Queries == 0 {
		return 0
	}
	const copies = 6 // gathered, on the device and their gradient there, its copy, rows as sent
	return copies * 4 * int64(h.Slots) * int64(m.architecture.Width) * int64(p.workers())
}

// arenas plans where activations lie in a step: the frames that phase A keeps, as many as the budget allows, or one for
// the backward pass of a shard after another.
func (p *prepared) arenas(t *trainer.Trainer, m *measured, h data.Header) error {
	n := p.workers()
	var tokens int
	for _, k := range h.Tokens {
		tokens += int(k)
	}
	budget, total, largest := int64(n)*keepBytes(n), int64(0), int64(0)
	again := false
	for _, k := range h.Tokens {
		embed, backward, err := t.Bytes(int(k), max(1, (h.Slots*int(k)+tokens-1)/max(tokens, 1)))
		if err != nil {
			return err
		}
		largest = max(largest, backward)
		switch {
		case !p.config.Loss.Embeds():
		case total+backward <= budget:
			total += backward
		default:
			again = true
			largest = max(largest, embed)
		}
	}
	switch {
	case !p.config.Loss.Embeds():
		total = int64(n) * (largest + min(logitBytes, 4*256*int64(m.architecture.Vocab)))
	case again:
		total += int64(n) * largest
	}
	m.arenas = total
	return nil
}

// resident is the memory in bytes that one of n workers holds besides activations. Parameters, a gradient and both
// moments are float32, a sum is int64; with others, the totals of this step and of the last four, which followers may
// still ask for, are kept too.
func (m *measured) resident(n int) int64 { return m.weights() + m.moments() + m.sums(n) }

func (m *measured) weights() int64 { return m.frozen + 4*m.trainable }

func (m *measured) moments() int64 { return 8 * m.trainable }

// own are the parameters and moments of a worker.
func (m *measured) own() int64 { return 4*m.trainable + m.moments() }

func (m *measured) sums(workers int) int64 {
	sums := int64(1)
	if workers > 1 {
		sums += 1 + 4
	}
	return (4 + 8*sums) * m.trainable
}

// copies are those of the parameters and moments that a checkpoint is written from: its writer's, and that of who
// stands by.
func (m *measured) copies(workers int) int64 { return int64(min(workers, 2)) * 12 * m.trainable }

// machineMemory is this machine's memory in bytes.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 1 << 62
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// processMemory is the memory that this process has now, in bytes, as the system counts it; 0 where it does not say.
func processMemory() int64 {
	text, err := os.ReadFile("/proc/self/statm") // pages: in all, resident, ...
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
