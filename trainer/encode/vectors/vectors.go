// Package vectors keeps embeddings on disk, so that an unchanged text is not embedded twice by an unchanged model.
//
// A model has a folder, and each process that adds to it a file of its own: nothing is locked and nothing is rewritten.
// A file is a header and records of one size, each with a check sum, so that what a crash or a bad disk leaves is not
// read. Whatever cannot be read is embedded again.
package vectors

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Key identifies a text as the model sees it.
type Key [16]byte

// KeyOf is the key of token ids of which the first prompt belong to the instruction.
func KeyOf(prompt int32, tokens []int32) Key {
	h := sha256.New()
	var b [4]byte
	for _, n := range append([]int32{prompt}, tokens...) {
		binary.LittleEndian.PutUint32(b[:], uint32(n))
		h.Write(b[:])
	}
	return Key(h.Sum(nil)[:16])
}

// Model is the name of a model's folder: the digest of everything besides the text that decides an embedding.
func Model(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d %s\n", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

const (
	magic  = "cpvec\x01\x00\x00"
	header = len(magic) + 8 // magic, width, check sum
	ending = ".vectors"
)

// Cache are the embeddings of one model. It is used by one goroutine at a time.
type Cache struct {
	dir     string
	width   int
	records map[Key]place
	files   []*os.File
	out     *bufio.Writer
	file    *os.File // that out writes to; nil until the first Put
	buf     []byte
	room    int64 // bytes that may be added
}

// ErrFull says that as much is kept as may be.
var ErrFull = errors.New("as many embeddings are kept as the limit allows")

type place struct {
	file *os.File
	at   int64
}

// Open opens the embeddings of a model, rows of width, under dir. Files of the models that were not used for longest are
// removed until all files together are within limit bytes, and no more is added than is left of it; 0 sets no limit.
func Open(dir, model string, width int, limit int64) (*Cache, error) {
	c := &Cache{dir: filepath.Join(dir, model), width: width, records: map[Key]place{}}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("open kept embeddings: %w", err)
	}
	now := time.Now()
	if err := os.Chtimes(c.dir, now, now); err != nil {
		return nil, fmt.Errorf("open kept embeddings: %w", err)
	}
	var err error
	if c.room, err = prune(dir, model, limit); err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(c.dir, "*"+ending))
	if err != nil {
		return nil, fmt.Errorf("open kept embeddings: %w", err)
	}
	for _, name := range names {
		if err := c.load(name); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// record is the size of one: key, row, check sum.
func (c *Cache) record() int { return len(Key{}) + 4*c.width + 4 }

func (c *Cache) head() []byte {
	b := binary.LittleEndian.AppendUint32([]byte(magic), uint32(c.width))
	return binary.LittleEndian.AppendUint32(b, sum(b))
}

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// load reads the keys of a file. A file of another form is left alone, and the end of a torn one too.
func (c *Cache) load(name string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another process removed it
	}
	if err != nil {
		return fmt.Errorf("open kept embeddings: %w", err)
	}
	in := bufio.NewReaderSize(f, 1<<18)
	head := make([]byte, header)
	if _, err := io.ReadFull(in, head); err != nil || string(head) != string(c.head()) {
		return f.Close()
	}
	c.files = append(c.files, f)
	for at, b := int64(header), make([]byte, c.record()); ; at += int64(len(b)) {
		if _, err := io.ReadFull(in, b); err != nil {
			return nil // the end, or a torn record
		}
		if sum(b[:len(b)-4]) == binary.LittleEndian.Uint32(b[len(b)-4:]) {
			c.records[Key(b)] = place{f, at}
		}
	}
}

// Len is how many embeddings are there.
func (c *Cache) Len() int { return len(c.records) }

// Get reads an embedding into row [width]; false if it is not there or cannot be read.
func (c *Cache) Get(key Key, row []float32) bool {
	p, ok := c.records[key]
	if !ok {
		return false
	}
	b := c.buffer()
	if _, err := p.file.ReadAt(b, p.at); err != nil || Key(b) != key || sum(b[:len(b)-4]) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return false
	}
	for i := range row {
		row[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[len(key)+4*i:]))
	}
	return true
}

func (c *Cache) buffer() []byte {
	if c.buf == nil {
		c.buf = make([]byte, c.record())
	}
	return c.buf
}

// Put adds an embedding [width]. It can be read after the next Open. ErrFull says that it and all later ones are not kept.
func (c *Cache) Put(key Key, row []float32) error {
	if len(row) != c.width {
		return fmt.Errorf("keep an embedding of %d values among those of %d", len(row), c.width)
	}
	if c.room -= int64(c.record()); c.room < 0 {
		return ErrFull
	}
	if c.file == nil {
		f, err := os.CreateTemp(c.dir, "*"+ending)
		if err != nil {
			return fmt.Errorf("keep embeddings: %w", err)
		}
		c.file, c.out = f, bufio.NewWriterSize(f, 1<<18)
		if _, err := c.out.Write(c.head()); err != nil {
			return fmt.Errorf("keep embeddings: %w", err)
		}
	}
	b := append(c.buffer()[:0], key[:]...)
	for _, v := range row {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	b = binary.LittleEndian.AppendUint32(b, sum(b))
	if _, err := c.out.Write(b); err != nil {
		return fmt.Errorf("keep embeddings: %w", err)
	}
	return nil
}

// Close writes what was added and closes the files.
func (c *Cache) Close() error {
	var errs []error
	if c.file != nil {
		errs = append(errs, c.out.Flush(), c.file.Close())
	}
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("keep embeddings: %w", err)
	}
	return nil
}

// prune removes the folders of models that were not opened for longest, but not that of model, and returns the bytes left.
func prune(dir, model string, limit int64) (room int64, err error) {
	if limit <= 0 {
		return math.MaxInt64, nil
	}
	type folder struct {
		path string
		used time.Time
		size int64
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("open kept embeddings: %w", err)
	}
	var folders []folder
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() {
			continue
		}
		f := folder{path: filepath.Join(dir, e.Name()), used: info.ModTime()}
		files, err := os.ReadDir(f.path)
		if err != nil {
			continue
		}
		for _, x := range files {
			if info, err := x.Info(); err == nil && strings.HasSuffix(x.Name(), ending) {
				f.size += info.Size()
			}
		}
		total += f.size
		if e.Name() != model {
			folders = append(folders, f)
		}
	}
	slices.SortFunc(folders, func(a, b folder) int { return a.used.Compare(b.used) })
	for _, f := range folders {
		if total <= limit {
			break
		}
		if err := os.RemoveAll(f.path); err != nil {
			return 0, fmt.Errorf("remove embeddings kept of a model that was not used for longest: %w", err)
		}
		total -= f.size
	}
	return limit - total, nil
}
