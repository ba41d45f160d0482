package data

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

// index is what is kept in memory of a file: where each row is, and of each text its identity and length. About
// 20 bytes a row and 12 bytes a text, however long the texts.
type index struct {
	offsets   []int64  // [rows] of the row's line in the file that has the rows
	sizes     []uint32 // [rows] bytes of the line
	lines     []uint32 // [rows] line number in the source's own file, for messages
	first     []uint32 // [rows+1] the row's first text
	positives []uint16 // [rows]
	hashes    []uint64 // [texts]
	lengths   []uint32 // [texts] tokens with the prefix, untruncated
	ids       []string // [rows] benchmark files; else nil
	skipped   int      // lines left out for errors
	unjudged  int      // queries left out because no document is relevant to them, in BEIR layout
	faults    []string // the first few of them
	copied    int64    // size of the decompressed copy; 0 = the rows are read from the source's own file
}

func (x *index) rows() int { return len(x.offsets) }

// texts returns the range [lo, hi) of the row's texts.
func (x *index) texts(row uint32) (lo, hi int) { return int(x.first[row]), int(x.first[row+1]) }

const (
	faultsListed = 5
	chunkRows    = 512
)

// builder makes an index in one pass over a file.
type builder struct {
	path  string
	limit int
	skip  bool
	format
	tok  Tokenizer
	log  *slog.Logger
	copy *bufio.Writer // where the rows of a gzip file go
	x    *index
	at   int64
}

type pending struct {
	rec     record
	raw     []byte
	line    int
	offset  int64
	lengths []uint32
	err     error
}

// build reads the file in chunks: lines in order, tokens of a chunk in parallel.
func (b *builder) build(l *lines) (*index, error) {
	b.x = &index{first: []uint32{0}}
	start, last := time.Now(), time.Now()
	for done := false; !done; {
		var chunk []pending
		want := chunkRows
		if b.limit > 0 {
			want = min(want, b.limit-b.x.rows())
		}
		for len(chunk) < want {
			line, err := l.read()
			if errors.Is(err, io.EOF) {
				done = true
				break
			}
			if err != nil {
				return nil, err
			}
			p := b.parse(line, l)
			if errors.Is(p.err, errUnjudged) {
				b.x.unjudged++
				continue
			}
			chunk = append(chunk, p)
		}
		if err := b.encode(chunk); err != nil {
			return nil, err
		}
		for i := range chunk {
			if err := b.add(&chunk[i]); err != nil {
				return nil, err
			}
		}
		done = done || b.limit > 0 && b.x.rows() >= b.limit
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			b.log.Info("indexing", "file", b.path, "rows", b.x.rows(), "elapsed", time.Since(start).Round(time.Second))
		}
	}
	if err := l.drain(); err != nil {
		return nil, err
	}
	if b.x.rows() == 0 && b.x.unjudged > 0 && b.x.skipped == 0 {
		return nil, fmt.Errorf("read %s: no rows: no document is relevant to any of its %d queries", b.path, b.x.unjudged)
	}
	if b.x.rows() == 0 {
		return nil, errNoRows(b.path, b.x.skipped)
	}
	return b.x, nil
}

func (b *builder) parse(line []byte, l *lines) pending {
	p := pending{line: l.line, offset: l.offset, raw: append([]byte(nil), line...)}
	if p.rec, p.err = b.format.parse(line); p.err != nil && !errors.Is(p.err, errUnjudged) {
		p.err = lineError(b.path, l.line, describe(line, p.err))
	}
	return p
}

// encode counts the tokens of every text of the chunk.
func (b *builder) encode(chunk []pending) error {
	g, _ := errgroup.WithContext(context.Background())
	workers := min(runtime.GOMAXPROCS(0), len(chunk))
	for w := range workers {
		g.Go(func() error {
			var buf []int32
			for i := w; i < len(chunk); i += workers {
				p := &chunk[i]
				if p.err != nil {
					continue
				}
				for j := range p.rec.texts {
					buf = b.format.encode(buf[:0], b.tok, &p.rec, j)
					if len(buf) == 0 {
						p.err = lineError(b.path, p.line, fmt.Errorf("the tokenizer makes no token of the text %.40q", p.rec.texts[j]))
					}
					p.lengths = append(p.lengths, uint32(len(buf)))
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// add appends a row, or counts it where its fault may be skipped.
func (b *builder) add(p *pending) error {
	x := b.x
	if p.err != nil {
		if !b.skip {
			return p.err
		}
		if x.skipped++; len(x.faults) < faultsListed {
			x.faults = append(x.faults, p.err.Error())
		}
		return nil
	}
	if len(x.hashes)+len(p.rec.texts) > math.MaxUint32 || x.rows() >= math.MaxUint32 {
		return fmt.Errorf("index %s:%d: more than %d texts", b.path, p.line, uint32(math.MaxUint32))
	}
	offset := p.offset
	if b.copy != nil {
		offset = b.at
		if _, err := b.copy.Write(append(p.raw, '\n')); err != nil {
			return fmt.Errorf("copy the rows of %s: %w", b.path, err)
		}
		b.at += int64(len(p.raw)) + 1
		x.copied = b.at
	}
	x.offsets = append(x.offsets, offset)
	x.sizes = append(x.sizes, uint32(len(p.raw)))
	x.lines = append(x.lines, uint32(p.line))
	x.positives = append(x.positives, uint16(p.rec.positives))
	for i := range p.rec.texts {
		x.hashes = append(x.hashes, p.rec.hash(i))
	}
	x.lengths = append(x.lengths, p.lengths...)
	x.first = append(x.first, uint32(len(x.hashes)))
	if p.rec.id != "" {
		x.ids = append(x.ids, p.rec.id)
	}
	return nil
}

// rowFile has the rows of an index: an *os.File, or texts in memory.
type rowFile interface {
	io.ReaderAt
	io.Closer
	Name() string
}

// source is an indexed file whose rows are read at random.
type source struct {
	path string // as the user wrote it
	name string
	format
	*index
	file   rowFile
	digest string

	layout string  // one of Formats, for training data
	limit  int     // rows, at most; 0 = all
	corpus *corpus // where the rows' documents are; nil where the rows have them
}

func (s *source) close() error {
	if s.corpus != nil {
		return errors.Join(s.file.Close(), s.corpus.close())
	}
	return s.file.Close()
}

// record reads one row again.
func (s *source) record(row uint32) (record, error) {
	raw := make([]byte, s.sizes[row])
	if _, err := s.file.ReadAt(raw, s.offsets[row]); err != nil {
		return record{}, fmt.Errorf("read %s: %w (%w)", s.where(row), s.changed(), err)
	}
	rec, err := s.parse(raw)
	if err != nil {
		return record{}, fmt.Errorf("read %s: %w (%w)", s.where(row), s.changed(), err)
	}
	return rec, nil
}

// check tells whether text i of the row is the one that was indexed.
func (s *source) check(row uint32, rec *record, i int) error {
	lo, hi := s.texts(row)
	if i >= len(rec.texts) || len(rec.texts) != hi-lo || rec.hash(i) != s.hashes[lo+i] {
		return fmt.Errorf("read %s: %w", s.where(row), s.changed())
	}
	return nil
}

// ErrChanged says that a file is no longer what was indexed.
var ErrChanged = errors.New("the file has changed since it was indexed")

func (s *source) changed() error {
	if s.copied > 0 {
		return fmt.Errorf("%w: its decompressed copy %s is damaged; remove it and start again", ErrChanged, s.file.Name())
	}
	return ErrChanged
}

// where names a row for people.
func (s *source) where(row uint32) string { return fmt.Sprintf("%s:%d", s.path, s.lines[row]) }
