package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
)

// A message ends with a seal: four bytes that say that it is one, and a checksum over everything before it. To builds that
// do not know seals it is a field that was appended to the message, which they skip.
const sealSize = 8

var (
	sealMark   = []byte{'C', 'P', 0xC3, 0x32}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// seal appends the seal to an encoded message, within the length of its struct.
func seal(b []byte) []byte {
	size, k := binary.Uvarint(b[headerSize:])
	var head [binary.MaxVarintLen64]byte
	h := binary.PutUvarint(head[:], size+sealSize)
	if h > k {
		b = slices.Insert(b, headerSize, make([]byte, h-k)...)
	}
	copy(b[headerSize:], head[:h])
	b = append(b, sealMark...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// sealed returns how many of a message's last bytes are a seal: none of a build that has none.
func sealed(b []byte) (last int, err error) {
	if len(b) < headerSize+1+sealSize || !bytes.Equal(b[len(b)-sealSize:len(b)-4], sealMark) {
		return 0, nil
	}
	if want, got := binary.LittleEndian.Uint32(b[len(b)-4:]), crc32.Checksum(b[:len(b)-4], castagnoli); want != got {
		return 0, fmt.Errorf("checksum of %d bytes is %08x, the sender's was %08x: %w", len(b), got, want, ErrMalformed)
	}
	return sealSize, nil
}
