package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/data"
)

// wide is a shard whose rows [3, 200,000] need three messages.
func wide() (*data.Shard, []float32) {
	shard := &data.Shard{Index: 1, Texts: []data.Text{{Slot: 2}, {Slot: 0}, {Slot: 1}}}
	rows := make([]float32, 3*200_000)
	for i := range rows {
		rows[i] = float32(i)
	}
	return shard, rows
}

func TestRowsOfAWideShard(t *testing.T) {
	shard, rows := wide()
	parts := split("r", 5, "w", shard, rows)
	if len(parts) != 3 {
		t.Fatalf("split = %d messages, want 3", len(parts))
	}
	b := newBoard(testLog())
	b.release(5)
	for i, p := range []*wire.Rows{parts[2], parts[0], parts[2], parts[1]} {
		if b.complete(5, 1) {
			t.Errorf("complete after %d messages", i)
		}
		p.Shard = 0
		b.add(p)
	}
	if !b.complete(5, 1) {
		t.Fatal("not complete after all messages")
	}
	shard.Index = 0
	if got := b.shard(5, shard); !slices.Equal(got, rows) {
		t.Error("shard differs from the rows that were shared")
	}
	all, err := b.gather(5, 3)
	if err != nil || !slices.Equal(all[:200_000], rows[200_000:400_000]) || !slices.Equal(all[400_000:], rows[:200_000]) {
		t.Errorf("gather is not in slot order, %v", err)
	}
	if _, err := b.gather(5, 4); err == nil {
		t.Error("gather of 4 slots with 3 rows = nil, want an error")
	}
}

func TestStrangeRows(t *testing.T) {
	var log bytes.Buffer
	b := newBoard(slog.New(slog.NewTextHandler(&log, nil)))
	b.release(5)
	good := func() *wire.Rows {
		m := &wire.Rows{Round: 5, Worker: "a", Texts: 1, Width: 2, Slots: []int32{3}, Values: []float32{1, 2}}
		m.Digest = wire.DigestRows(m.Slots, m.Values)
		return m
	}
	for what, change := range map[string]func(*wire.Rows){
		"damaged":      func(m *wire.Rows) { m.Values[1] = 3 },
		"no slots":     func(m *wire.Rows) { m.Slots = nil },
		"short":        func(m *wire.Rows) { m.Values = m.Values[:1] },
		"old round":    func(m *wire.Rows) { m.Round = 4 },
		"distant":      func(m *wire.Rows) { m.Round = 5 + early + 1 },
		"few texts":    func(m *wire.Rows) { m.Texts = 0 },
		"zero a width": func(m *wire.Rows) { m.Width = 0 },
	} {
		m := good()
		change(m)
		b.add(m)
		if b.complete(m.Round, 1) {
			t.Errorf("%s: taken", what)
		}
	}
	b.add(good())
	other := good()
	other.Worker, other.Values = "b", []float32{1, 4}
	other.Digest = wire.DigestRows(other.Slots, other.Values)
	b.add(other)
	if !strings.Contains(log.String(), "one=a other=b") {
		t.Errorf("log %q: want both workers named", log.String())
	}
	if got := b.parts(5, 0); len(got) != 1 || got[0].Worker != "a" {
		t.Errorf("parts = %v, want the first only", got)
	}
}

// library is a Link that serves texts and counts the questions; every third fails.
type library struct {
	Link
	mu    sync.Mutex
	asked [][]int
	late  time.Duration
}

func (l *library) Shards(ctx context.Context, m *wire.ShardRequest) (*wire.ShardReply, error) {
	l.mu.Lock()
	l.asked = append(l.asked, m.Shards)
	n := len(l.asked)
	l.mu.Unlock()
	if n%3 == 0 {
		return nil, errLost
	}
	if n%5 == 0 {
		return &wire.ShardReply{Err: "data not open yet"}, nil
	}
	if sleep(ctx, l.late) != nil {
		return nil, errors.New("asked no longer")
	}
	reply := &wire.ShardReply{}
	for i, s := range m.Shards {
		if i < 3 { // a coordinator may send fewer than asked for
			reply.Shards = append(reply.Shards, data.Shard{Index: s, Texts: []data.Text{{Row: m.Step}}})
		}
	}
	return reply, nil
}

func TestShelfFetchesAhead(t *testing.T) {
	lib := &library{late: 2 * time.Millisecond}
	s := newShelf(lib, "r", 50*time.Millisecond, testLog())
	s.live(t.Context())
	defer s.flying.Wait()
	req := wire.ShardRequest{Run: "r", Kind: wire.Train, Step: 9}
	tokens := make([]int32, 40)
	var want []int
	for i := range tokens {
		tokens[i] = 100
		want = append(want, i)
	}
	for len(want) > 0 {
		x, err := s.shard(t.Context(), req, want, tokens)
		if err != nil || x.Index != want[0] || x.Texts[0].Row != 9 {
			t.Fatalf("shard(%d) = %+v, %v", want[0], x, err)
		}
		want = want[1:]
	}
	lib.mu.Lock()
	defer lib.mu.Unlock()
	alone := slices.ContainsFunc(lib.asked, func(q []int) bool { return slices.Equal(q, []int{0}) })
	if len(lib.asked) > 36 || !alone {
		t.Errorf("questions %v: want the first shard alone and the rest together", lib.asked)
	}
	for _, q := range lib.asked {
		if len(q) > messageShards {
			t.Errorf("question for %d shards, want at most %d", len(q), messageShards)
		}
	}
}
