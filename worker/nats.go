package worker

import (
	"context"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
	"github.com/counterpoint-ml/counterpoint/coordinator/wire/bus"
)

// NewLink returns the Link over a NATS connection, which stays the caller's.
func NewLink(conn *bus.Conn) Link { return natsLink{conn} }

type natsLink struct{ conn *bus.Conn }

func (l natsLink) Hello(ctx context.Context, m *wire.Hello) (*wire.Welcome, error) {
	signed := *m // messages that a link is given are not its own
	if err := l.conn.Introduce(&signed); err != nil {
		return nil, err
	}
	return bus.Request[wire.Welcome](ctx, l.conn, wire.HelloSubject, &signed)
}

func (l natsLink) Beat(ctx context.Context, m *wire.Beat) (*wire.Pulse, error) {
	return bus.Request[wire.Pulse](ctx, l.conn, wire.BeatSubject, m)
}

func (l natsLink) Leave(ctx context.Context, m *wire.Leave) error {
	_, err := bus.Request[wire.Verdict](ctx, l.conn, wire.LeaveSubject, m)
	return err
}

func (l natsLink) Header(ctx context.Context, m *wire.HeaderRequest) (*wire.HeaderReply, error) {
	return bus.Request[wire.HeaderReply](ctx, l.conn, wire.HeaderSubject(m.Run), m)
}

func (l natsLink) Shards(ctx context.Context, m *wire.ShardRequest) (*wire.ShardReply, error) {
	return bus.Request[wire.ShardReply](ctx, l.conn, wire.ShardSubject(m.Run), m)
}

func (l natsLink) File(ctx context.Context, m *wire.FileRequest) (*wire.FileReply, error) {
	return bus.Request[wire.FileReply](ctx, l.conn, wire.FileSubject(m.Run), m)
}

func (l natsLink) Report(ctx context.Context, m *wire.Report) (*wire.Verdict, error) {
	return bus.Request[wire.Verdict](ctx, l.conn, wire.ReportSubject(m.Run), m)
}

func (l natsLink) Applied(ctx context.Context, m *wire.Applied) (*wire.Verdict, error) {
	return bus.Request[wire.Verdict](ctx, l.conn, wire.AppliedSubject(m.Run), m)
}

func (l natsLink) Scored(ctx context.Context, m *wire.Scored) (*wire.Verdict, error) {
	return bus.Request[wire.Verdict](ctx, l.conn, wire.ScoredSubject(m.Run), m)
}

func (l natsLink) Saved(ctx context.Context, m *wire.Saved) (*wire.Verdict, error) {
	return bus.Request[wire.Verdict](ctx, l.conn, wire.SavedSubject(m.Run), m)
}

func (l natsLink) Publish(_ context.Context, m *wire.Rows) error {
	return l.conn.Publish(wire.RowsSubject(m.Run), m)
}

func (l natsLink) Send(_ context.Context, to string, m *wire.Rows) error {
	return l.conn.Publish(wire.RowsReplySubject(m.Run, to), m)
}

func (l natsLink) AskRows(_ context.Context, m *wire.RowsRequest) error {
	return l.conn.Publish(wire.RowsRequestSubject(m.Run), m)
}

func (l natsLink) Ask(ctx context.Context, worker string, m *wire.ChunkRequest) (*wire.Chunk, error) {
	return bus.Request[wire.Chunk](ctx, l.conn, wire.ChunkSubject(m.Run, worker), m)
}

// attendance is what one Attend subscribed to. Questions are answered in goroutines of their own, since an answer may
// wait for its value.
type attendance struct {
	subs    []*bus.Subscription
	cancel  context.CancelFunc
	answers sync.WaitGroup

	mu      sync.Mutex
	stopped bool
}

// answer runs f in a goroutine that stop waits for.
func (a *attendance) answer(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.stopped {
		a.answers.Go(f)
	}
}

func (a *attendance) stop() {
	for _, s := range a.subs {
		s.Unsubscribe()
	}
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	a.cancel()
	a.answers.Wait()
}

// Attend implements Link.
func (l natsLink) Attend(run, worker string, h Handlers) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attendance{cancel: cancel}
	add := func(s *bus.Subscription, serr error) {
		if serr != nil {
			err = serr
			return
		}
		a.subs = append(a.subs, s)
	}
	add(bus.Subscribe(l.conn, wire.RoundSubject(run), h.Round))
	add(bus.Subscribe(l.conn, wire.RowsSubject(run), h.Rows))
	add(bus.Subscribe(l.conn, wire.RowsReplySubject(run, worker), h.Rows))
	add(bus.Subscribe(l.conn, wire.RowsRequestSubject(run), func(q *wire.RowsRequest) {
		a.answer(func() { h.AskRows(ctx, q) })
	}))
	add(bus.Serve(l.conn, wire.ChunkSubject(run, worker), "", func(q *wire.ChunkRequest, reply func(*wire.Chunk)) {
		a.answer(func() { reply(h.Chunk(ctx, q)) })
	}))
	if err != nil {
		a.stop()
		return nil, err
	}
	fctx, done := context.WithTimeout(ctx, time.Second)
	defer done()
	_ = l.conn.Flush(fctx) // without a server now, the subscriptions are made again when there is one
	return a.stop, nil
}
