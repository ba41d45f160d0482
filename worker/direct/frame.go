package direct

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// A frame is a header of 24 bytes, little-endian, its head (a wire message without payload) and its payload:
//
//	0  "CD", version, kind
//	4  id of the question
//	8  bytes of the head
//	12 bytes of the payload
//	16 CRC-32C of the header up to here and of the head
//	20 zero
//
// The payload has a digest in its head, which is checked by whoever asked for it.
const (
	headerSize = 24
	version    = 1
	maxHead    = 4 << 10
)

// Kinds of frames.
const (
	question = byte(iota + 1) // head: wire.ChunkRequest
	answer                    // head: wire.Chunk
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type frame struct {
	kind    byte
	id      uint32
	head    []byte
	payload []byte
}

// write sends a frame in one system call where the connection can (writev). deadline bounds it.
func (f *frame) write(c net.Conn, deadline time.Time) error {
	if len(f.head) > maxHead || len(f.payload) > wire.MaxMessage {
		return fmt.Errorf("send a head of %d bytes (at most %d) and a payload of %d (at most %d): %w", len(f.head), maxHead, len(f.payload), wire.MaxMessage, ErrOversized)
	}
	b := make([]byte, headerSize, headerSize+len(f.head))
	b[0], b[1], b[2], b[3] = 'C', 'D', version, f.kind
	binary.LittleEndian.PutUint32(b[4:], f.id)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(f.head)))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(f.payload)))
	sum := crc32.Update(crc32.Checksum(b[:16], castagnoli), castagnoli, f.head)
	binary.LittleEndian.PutUint32(b[16:], sum)
	buffers := net.Buffers{append(b, f.head...)}
	if len(f.payload) > 0 {
		buffers = append(buffers, f.payload)
	}
	if err := c.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := buffers.WriteTo(c)
	return slow(err)
}

// reader reads the frames of a connection.
type reader struct {
	c       net.Conn
	in      *bufio.Reader
	kind    byte          // allowed
	payload int           // most bytes of a payload
	patient time.Duration // for the rest of a frame whose header has come
	buffer  func(n int) []byte
}

func newReader(c net.Conn, kind byte, payload int, o *Options) *reader {
	return &reader{c: c, in: bufio.NewReaderSize(c, 4<<10), kind: kind, payload: payload, patient: 2 * o.Failure, buffer: o.Buffer}
}

// next waits for a frame as long as it takes, and for the rest of one that has begun not longer than patient.
func (r *reader) next() (frame, error) {
	if _, err := r.in.Peek(1); err != nil {
		return frame{}, err
	}
	if err := r.c.SetReadDeadline(time.Now().Add(r.patient)); err != nil {
		return frame{}, err
	}
	f, err := r.read()
	if err != nil {
		return f, slow(err)
	}
	return f, r.c.SetReadDeadline(time.Time{})
}

func (r *reader) read() (frame, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r.in, h[:]); err != nil {
		return frame{}, err
	}
	if h[0] != 'C' || h[1] != 'D' || h[2] != version || h[3] != r.kind || binary.LittleEndian.Uint32(h[20:]) != 0 {
		return frame{}, fmt.Errorf("header % x: %w", h[:4], ErrDamaged)
	}
	head, payload := binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
	if head > maxHead || uint64(payload) > uint64(r.payload) {
		return frame{}, fmt.Errorf("a head of %d bytes, at most %d, and a payload of %d, at most %d: %w", head, maxHead, payload, r.payload, ErrOversized)
	}
	f := frame{kind: h[3], id: binary.LittleEndian.Uint32(h[4:]), head: make([]byte, head)}
	if _, err := io.ReadFull(r.in, f.head); err != nil {
		return f, err
	}
	if crc32.Update(crc32.Checksum(h[:16], castagnoli), castagnoli, f.head) != binary.LittleEndian.Uint32(h[16:]) {
		return f, fmt.Errorf("head of %d bytes does not have its checksum: %w", head, ErrDamaged)
	}
	if payload > 0 {
		f.payload = r.buffer(int(payload))
		if _, err := io.ReadFull(r.in, f.payload); err != nil {
			return f, err
		}
	}
	return f, nil
}

// slow names a deadline that passed.
func slow(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrSlow, err)
	}
	return err
}
