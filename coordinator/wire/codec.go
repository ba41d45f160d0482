package wire

import (
	"errors"
	"fmt"

	"github.com/counterpoint-ml/counterpoint/coordinator/pack"
)

// MaxMessage is the largest message in bytes; the server refuses larger ones. Values that may grow beyond are cut by
// their sender: Rows by shard, ShardReply by the number of shards asked for, files and states in parts.
const MaxMessage = 8 << 20

// Every message starts with this header: two bytes that say that it is ours, the protocol version that its body is
// written in (see since), and the message's code.
const headerSize = 4

var magic = [2]byte{'C', 'P'}

// Errors of Decode.
var (
	// ErrMalformed marks bytes that are not a message of ours, or not of the type that its subject carries.
	ErrMalformed = errors.New("malformed message")
	// ErrProtocol marks a message of a protocol version outside ProtocolMin..ProtocolMax.
	ErrProtocol = errors.New("protocol version not spoken here")
	// ErrTooLarge marks a message beyond MaxMessage.
	ErrTooLarge = errors.New("message too large")
)

// code numbers a message type on the wire. Numbers are never used again for another type. 0 is no message.
func code(m any) byte {
	switch m.(type) {
	case *Hello:
		return 1
	case *Welcome:
		return 2
	case *Beat:
		return 3
	case *Pulse:
		return 4
	case *Round:
		return 5
	case *ShardRequest:
		return 6
	case *ShardReply:
		return 7
	case *HeaderRequest:
		return 8
	case *HeaderReply:
		return 9
	case *Rows:
		return 10
	case *RowsRequest:
		return 11
	case *Report:
		return 12
	case *Verdict:
		return 13
	case *Applied:
		return 14
	case *Scored:
		return 15
	case *Saved:
		return 16
	case *ChunkRequest:
		return 17
	case *Chunk:
		return 18
	case *FileRequest:
		return 19
	case *FileReply:
		return 20
	case *Log:
		return 21
	case *Leave:
		return 22
	case *Control:
		return 23
	case *ControlReply:
		return 24
	case *StatusRequest:
		return 25
	case *StatusReply:
		return 26
	case *LogsRequest:
		return 27
	case *LogsReply:
		return 28
	case *SubmitRequest:
		return 29
	case *SubmitReply:
		return 30
	case *RunsRequest:
		return 31
	case *RunsReply:
		return 32
	case *RunEvent:
		return 40
	case *EventsRequest:
		return 41
	case *EventsReply:
		return 42
	}
	return 0
}

// since is the protocol version that a message's body is written in: the first one whose builds can read it. Fields
// that are appended do not raise it, for older readers skip them.
func since(code byte) byte {
	if code >= 29 {
		return 2
	}
	return 1
}

// Encode returns the bytes of m, a pointer to a message of this package. A pointer to anything else is a mistake of
// the caller and panics.
func Encode(m any) ([]byte, error) {
	c := code(m)
	if c == 0 {
		panic(fmt.Sprintf("wire: %T is not a message", m))
	}
	b := seal(pack.Append([]byte{magic[0], magic[1], since(c), c}, m))
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("encode %T: %d bytes, at most %d: %w", m, len(b), MaxMessage, ErrTooLarge)
	}
	return b, nil
}

// Decode reads b into m, a pointer to the message that is expected. It never panics on any b, and keeps nothing of it.
func Decode(b []byte, m any) error {
	c := code(m)
	if c == 0 {
		panic(fmt.Sprintf("wire: %T is not a message", m))
	}
	switch {
	case len(b) > MaxMessage:
		return fmt.Errorf("decode %T: %d bytes, at most %d: %w", m, len(b), MaxMessage, ErrTooLarge)
	case len(b) < headerSize || b[0] != magic[0] || b[1] != magic[1]:
		return fmt.Errorf("decode %T: %d bytes without our header: %w", m, len(b), ErrMalformed)
	case b[2] < ProtocolMin || b[2] > ProtocolMax:
		return fmt.Errorf("decode %T: version %d, this build speaks %d to %d: %w", m, b[2], ProtocolMin, ProtocolMax, ErrProtocol)
	case b[3] != c:
		return fmt.Errorf("decode %T (code %d): message of code %d: %w", m, c, b[3], ErrMalformed)
	}
	last, err := sealed(b)
	if err != nil {
		return fmt.Errorf("decode %T: %w", m, err)
	}
	if err := pack.UnmarshalBut(b[headerSize:], m, last); err != nil {
		return fmt.Errorf("decode %T: %w: %w", m, ErrMalformed, err)
	}
	return nil
}
