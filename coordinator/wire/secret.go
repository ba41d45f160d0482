package wire

import "log/slog"

// Secret is known to the members of a run and to nobody else: with it a worker shows another that it is one. It prints,
// and is logged and marshalled as text, as a placeholder.
type Secret []byte

const hidden = "(secret)"

// String hides the value.
func (Secret) String() string { return hidden }

// GoString hides the value.
func (Secret) GoString() string { return hidden }

// LogValue hides the value.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the value.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Path is how a worker takes values from another: "memory" within one process, "direct" over a connection of their own,
// "relay" over NATS.
type Path struct {
	Worker string
	Kind   string
	Why    string  // not a better one; "" = it is the best
	Bytes  int64   // of values taken, in all
	Rate   float64 // bytes a second while values came
}
