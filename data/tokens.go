package data

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
)

// tokenStore keeps the tokens of every text of a source beside its index, so that a text is tokenised once and not
// again for each of its shards. It is named by the index's digest: content, prompts and tokenizer. Layout: the magic;
// then for each text its ids, three bytes each in little-endian, and the CRC-32C of these bytes. Where a text is follows
// from the lengths in the index.
type tokenStore struct {
	file   *os.File
	starts []int64 // [rows] of the row's first text
	bad    atomic.Bool
}

const (
	tokensMagic = "counterpoint tokens 1\n"
	tokenBytes  = 3
	maxTokenID  = 1<<(8*tokenBytes) - 1
	sumBytes    = 4
)

// maxTokenStores bounds the token files of a cache folder, in bytes; beyond it the ones not opened for longest go.
// A variable for tests.
var maxTokenStores = int64(8 << 30)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tokenWriter writes a store while an index is built.
type tokenWriter struct {
	out  *bufio.Writer
	size int64
	buf  []byte
}

// errTokensLeftOut says that a store would not pay or not fit: the index is made without it.
var errTokensLeftOut = errors.New("the tokens are not cached")

func (w *tokenWriter) begin() error {
	n, err := w.out.WriteString(tokensMagic)
	w.size = int64(n)
	return err
}

func (w *tokenWriter) text(ids []int32) error {
	w.buf = w.buf[:0]
	for _, id := range ids {
		if id < 0 || id > maxTokenID {
			return errTokensLeftOut
		}
		w.buf = append(w.buf, byte(id), byte(id>>8), byte(id>>16))
	}
	w.buf = binary.LittleEndian.AppendUint32(w.buf, crc32.Checksum(w.buf, castagnoli))
	if w.size += int64(len(w.buf)); w.size > maxTokenStores {
		return errTokensLeftOut
	}
	_, err := w.out.Write(w.buf)
	return err
}

// openTokens opens the store of an index. os.ErrNotExist: there is none.
func openTokens(base string, x *index) (*tokenStore, error) {
	f, err := os.Open(base + ".tokens")
	if err != nil {
		return nil, err
	}
	s := &tokenStore{file: f, starts: make([]int64, x.rows())}
	at := int64(len(tokensMagic))
	for row := range s.starts {
		s.starts[row] = at
		lo, hi := x.texts(uint32(row))
		for _, n := range x.lengths[lo:hi] {
			at += tokenBytes*int64(n) + sumBytes
		}
	}
	head := make([]byte, len(tokensMagic))
	_, err = f.ReadAt(head, 0)
	info, statErr := f.Stat()
	if err == nil && statErr == nil && (string(head) != tokensMagic || info.Size() != at) {
		err = fmt.Errorf("%s has %d bytes and begins with %q, the index wants %d", f.Name(), info.Size(), head, at)
	}
	if err = errors.Join(err, statErr); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// read appends the tokens of text i of a row; false: they cannot be read, and the text is to be tokenised.
func (s *tokenStore) read(dst []int32, x *index, row uint32, i int) ([]int32, bool) {
	if s == nil || s.bad.Load() {
		return dst, false
	}
	lo, hi := x.texts(row)
	if i >= hi-lo {
		return dst, false
	}
	at := s.starts[row]
	for _, n := range x.lengths[lo : lo+i] {
		at += tokenBytes*int64(n) + sumBytes
	}
	raw := make([]byte, tokenBytes*int(x.lengths[lo+i])+sumBytes)
	_, err := s.file.ReadAt(raw, at)
	body := raw[:len(raw)-sumBytes]
	if err != nil || crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(raw[len(body):]) {
		s.bad.Store(true)
		_ = os.Remove(s.file.Name()) // so that the next start makes it again
		return dst, false
	}
	for ; len(body) > 0; body = body[tokenBytes:] {
		dst = append(dst, int32(body[0])|int32(body[1])<<8|int32(body[2])<<16)
	}
	return dst, true
}

func (s *tokenStore) close() error {
	if s == nil {
		return nil
	}
	return s.file.Close()
}

// trimTokens removes token files of a folder until they are within the bound, those not used for longest first; keep
// is left in any case.
func trimTokens(dir, keep string, log *slog.Logger) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.tokens"))
	if err != nil {
		return
	}
	type entry struct {
		path       string
		size, used int64
	}
	var all []entry
	total := int64(0)
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			all = append(all, entry{path, info.Size(), info.ModTime().UnixNano()})
			total += info.Size()
		}
	}
	slices.SortFunc(all, func(a, b entry) int {
		if a.used != b.used {
			return int(min(max(a.used-b.used, -1), 1))
		}
		return int(a.size - b.size)
	})
	for _, e := range all {
		if total <= maxTokenStores {
			return
		}
		if e.path == keep {
			continue
		}
		if err := os.Remove(e.path); err == nil {
			total -= e.size
			log.Debug("cached tokens were removed to bound the cache", "file", e.path, "bytes", e.size)
		}
	}
}
