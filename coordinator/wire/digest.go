package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
)

// DigestBytes returns the digest of a payload: SHA-256, the first 16 bytes in hex. It guards against accidents, not
// against a worker that lies.
func DigestBytes(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:16])
}

// DigestRows returns the digest of a shard's embeddings: of its slots and of the bits of their values.
func DigestRows(slots []int32, values []float32) string {
	b := make([]byte, 0, 4*(len(slots)+len(values)))
	for _, s := range slots {
		b = binary.LittleEndian.AppendUint32(b, uint32(s))
	}
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return DigestBytes(b)
}
