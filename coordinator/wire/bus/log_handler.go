package bus

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// NewLogHandler returns a handler that passes records on to inner and publishes those of level Info and above on
// wire.LogSubject, so that `counterpoint logs` shows the whole fleet's. The attribute "run" says which run a line is
// about. A record that cannot be published is only in
// inner: logging never blocks and never fails.
func NewLogHandler(c *Conn, source string, inner slog.Handler) slog.Handler {
	return &logHandler{inner: inner, conn: c, source: source}
}

type logHandler struct {
	inner  slog.Handler
	conn   *Conn
	source string
	attrs  []slog.Attr
	group  string
}

func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.inner.Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo && h.conn.Connected() {
		var b strings.Builder
		b.WriteString(r.Message)
		run := ""
		add := func(a slog.Attr) bool {
			if a.Key == "run" && h.group == "" {
				run = a.Value.String()
				return true
			}
			if !a.Equal(slog.Attr{}) && a.Value.String() != "" {
				b.WriteString(" " + h.group + a.String())
			}
			return true
		}
		for _, a := range h.attrs {
			add(a)
		}
		r.Attrs(add)
		at := r.Time
		if at.IsZero() {
			at = time.Now()
		}
		_ = h.conn.Publish(wire.LogSubject, &wire.Log{Time: at, Source: h.source, Level: r.Level.String(), Text: b.String(), Run: run})
	}
	if !h.inner.Enabled(ctx, r.Level) {
		return nil
	}
	return h.inner.Handle(ctx, r)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.inner = h.inner.WithAttrs(attrs)
	c.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return &c
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.inner = h.inner.WithGroup(name)
	c.group += name + "."
	return &c
}
