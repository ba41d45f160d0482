package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/pack"
)

// Command is one decision. Commands say what they expect to find (the round, the step, the closing), so that a
// command that comes twice or too late is rejected and changes nothing.
type Command interface {
	apply(s *State) error
}

// ErrRejected marks a command whose expectation does not hold.
var ErrRejected = errors.New("command rejected")

// ErrUnknown marks an entry that this build cannot read: of a newer version, or damaged. A node must stop at it.
var ErrUnknown = errors.New("entry not understood by this build")

// entryVersion is the first byte of every entry. Version 2 has a checksum after it, so that a changed bit on a disk is
// seen when the entry is read and not taken for another decision; entries of version 1 are read without.
const (
	entryVersion = 2
	entryPlain   = 1
)

// castagnoli is the polynomial of the checksum: the one that processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ignorable is the bit of a command's code that lets builds which do not know it go on without it.
const ignorable = 0x80

// MaxShards bounds the shards of a round.
const MaxShards = 1 << 20

// kinds numbers the commands in the log. Numbers are never used again: a command whose meaning changes gets a new one,
// and its old form stays for old logs (version_one.go). Fields may be appended to a command.
var kinds = map[byte]reflect.Type{
	1:  reflect.TypeFor[submitOne](),
	2:  reflect.TypeFor[Configure](),
	3:  reflect.TypeFor[joinOne](),
	4:  reflect.TypeFor[Expire](),
	5:  reflect.TypeFor[Follow](),
	6:  reflect.TypeFor[Promote](),
	7:  reflect.TypeFor[Fix](),
	8:  reflect.TypeFor[Open](),
	9:  reflect.TypeFor[Grant](),
	10: reflect.TypeFor[Retry](),
	11: reflect.TypeFor[Close](),
	12: reflect.TypeFor[Commit](),
	13: reflect.TypeFor[Score](),
	14: reflect.TypeFor[Evaluated](),
	15: reflect.TypeFor[Abandon](),
	16: reflect.TypeFor[Restart](),
	17: reflect.TypeFor[SaveAt](),
	18: reflect.TypeFor[SaveLost](),
	19: reflect.TypeFor[Saved](),
	20: reflect.TypeFor[Drop](),
	21: reflect.TypeFor[SetState](),
	22: reflect.TypeFor[Demote](),
	23: reflect.TypeFor[Submit](),
	24: reflect.TypeFor[Join](),
	25: reflect.TypeFor[Assign](),
	26: reflect.TypeFor[Prioritize](),
	40: reflect.TypeFor[Rewind](),
	41: reflect.TypeFor[Admit](),
	42: reflect.TypeFor[Hold](),

	ignorable | 1: reflect.TypeFor[Verify](),
}

var codes = func() map[reflect.Type]byte {
	m := make(map[reflect.Type]byte)
	for code, t := range kinds {
		m[t] = code
	}
	return m
}()

// Entry is one entry of the log: commands that apply together or not at all.
type Entry struct {
	Key      string    // idempotency key: an entry whose key was applied lately changes nothing
	Time     time.Time // the leader's clock
	Commands []Command
}

type envelope struct {
	Key  string
	Time time.Time
	Body [][]byte // code, then the packed command
}

// Marshal returns the entry's bytes.
func (e *Entry) Marshal() []byte {
	v := envelope{Key: e.Key, Time: e.Time}
	for _, c := range e.Commands {
		t := reflect.TypeOf(c).Elem()
		code, ok := codes[t]
		if !ok {
			panic(fmt.Sprintf("fsm: %s has no code", t))
		}
		v.Body = append(v.Body, pack.Append([]byte{code}, c))
	}
	b := pack.Append([]byte{entryVersion, 0, 0, 0, 0}, v)
	binary.LittleEndian.PutUint32(b[1:], crc32.Checksum(b[5:], castagnoli))
	return b
}

// ParseEntry reads an entry. Errors wrap ErrUnknown.
func ParseEntry(b []byte) (*Entry, error) {
	var body []byte
	switch {
	case len(b) > 5 && b[0] == entryVersion:
		body = b[5:]
		if want, got := binary.LittleEndian.Uint32(b[1:]), crc32.Checksum(body, castagnoli); got != want {
			return nil, fmt.Errorf("entry of %d bytes is damaged: its checksum is %08x, its content's is %08x: %w", len(b), want, got, ErrUnknown)
		}
	case len(b) > 1 && b[0] == entryPlain:
		body = b[1:]
	default:
		return nil, fmt.Errorf("entry of %d bytes, version %v: %w", len(b), b[:min(1, len(b))], ErrUnknown)
	}
	var v envelope
	if err := pack.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	e := &Entry{Key: v.Key, Time: v.Time}
	for _, body := range v.Body {
		if len(body) == 0 {
			return nil, fmt.Errorf("empty command: %w", ErrUnknown)
		}
		t, ok := kinds[body[0]]
		switch {
		case !ok && body[0]&ignorable != 0:
			continue
		case !ok:
			return nil, fmt.Errorf("command code %d: %w", body[0], ErrUnknown)
		}
		c := reflect.New(t)
		if err := pack.Unmarshal(body[1:], c.Interface()); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		e.Commands = append(e.Commands, c.Interface().(Command))
	}
	return e, nil
}

// Apply returns the state after a command; s stays as it is. It is for planners, who look ahead with it.
func (s *State) Apply(now time.Time, c Command) (*State, error) {
	next := s.Clone()
	next.Now = now
	if err := c.apply(next); err != nil {
		return s, err
	}
	return next, nil
}

// key makes idempotency keys of a leader: unique as long as no two leaders share a term.
func key(term, sequence uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], term)
	binary.BigEndian.PutUint64(b[8:], sequence)
	return string(b[:])
}

// NewEntry returns the sequence-th entry of a leader's term.
func NewEntry(term, sequence uint64, now time.Time, commands []Command) *Entry {
	return &Entry{Key: key(term, sequence), Time: now.UTC().Round(0), Commands: commands}
}

func reject(format string, a ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), ErrRejected)
}
