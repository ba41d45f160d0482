package backbone

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/counterpoint-ml/counterpoint/trainer/engine"
)

// castagnoli is the polynomial that processors compute: a checksum of it runs at the speed of memory, and shows every
// change of up to 32 bits in a row.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// watchPart is how many bytes have one checksum: what a check reads between two looks at its context.
const watchPart = 1 << 20

// watched is a frozen group of weights with the checksums of its memory.
type watched struct {
	dev    engine.Former
	tensor engine.Tensor
	forms  map[string][]uint32
	first  []string // forms that it was loaded in
}

// Watch makes the base remember checksums of the frozen weights as they are loaded from now on, in the form in which
// kernels read them: a second pass over them at the speed of memory. It is called before the first model is made.
func (b *Base) Watch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watch == nil {
		b.watch = map[string]*watched{}
	}
}

// remember takes the checksums of a group that was loaded just now. The caller holds mu.
func (b *Base) remember(dev engine.Device, key string, t engine.Tensor) {
	f, ok := dev.(engine.Former)
	if b.watch == nil || !ok {
		return
	}
	w := &watched{dev: f, tensor: t, forms: map[string][]uint32{}}
	for _, form := range f.Forms(t) {
		w.forms[form.Name] = checksums(form.Bytes)
		w.first = append(w.first, form.Name)
	}
	b.watch[key] = w
}

func checksums(b []byte) []uint32 {
	out := make([]uint32, 0, (len(b)+watchPart-1)/watchPart)
	for len(b) > 0 {
		n := min(len(b), watchPart)
		out = append(out, crc32.Checksum(b[:n], castagnoli))
		b = b[n:]
	}
	return out
}

// FrozenDigest returns the digest of the frozen weights as they were loaded; "" if none are watched. It is the same wherever
// the same weights were loaded for the same kernels.
func (b *Base) FrozenDigest() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.watch) == 0 {
		return ""
	}
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(b.watch)) {
		w := b.watch[key]
		for _, name := range w.first {
			fmt.Fprintf(h, "%s %s %d\n", key, name, len(w.forms[name]))
			for _, sum := range w.forms[name] {
				h.Write(binary.LittleEndian.AppendUint32(nil, sum))
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// ChangedError says which frozen weights are not what was loaded.
type ChangedError struct {
	Group       string // of tensors, such as "layers.3.up"
	Part, Parts int    // of a MiB each
}

// Error names the group.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("the frozen weights %s changed in memory since they were loaded (MiB %d of %d)", e.Group, e.Part+1, e.Parts)
}

// CheckFrozen hashes the frozen weights again, a MiB at a time, while models compute with them. A difference is a
// *ChangedError. Forms that a device has made since are remembered from now on.
func (b *Base) CheckFrozen(ctx context.Context) error {
	b.mu.Lock()
	all := maps.Clone(b.watch)
	b.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		w := all[key]
		for _, form := range w.dev.Forms(w.tensor) {
			b.mu.Lock()
			want, known := w.forms[form.Name]
			b.mu.Unlock()
			parts := (len(form.Bytes) + watchPart - 1) / watchPart
			got := make([]uint32, 0, parts)
			for i := range parts {
				if err := ctx.Err(); err != nil {
					return err
				}
				got = append(got, crc32.Checksum(form.Bytes[i*watchPart:min((i+1)*watchPart, len(form.Bytes))], castagnoli))
				if known && got[i] != want[i] {
					return &ChangedError{key, i, parts}
				}
			}
			if !known {
				b.mu.Lock()
				w.forms[form.Name] = got
				b.mu.Unlock()
			}
		}
	}
	return nil
}
