package data

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
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
	keep *tokenWriter  // where the tokens go; nil = nowhere
	x    *index
	at   int64
}

// pending is a row between being read and being added.
type pending struct {
	rec     record
	raw     []byte
	line    int
	offset  int64
	lengths []uint32
	hashes  []uint64
	tokens  []int32 // of all texts, if they are kept
	err     error
}

// chunk is what is read at a time; err ends the file, io.EOF well.
type chunk struct {
	rows []pending
	err  error
}

// build reads the file in chunks: lines in order, each chunk's rows parsed and tokenised on all cores while the next one
// is read, and added in order.
func (b *builder) build(l *lines) (*index, error) {
	b.x = &index{first: []uint32{0}}
	start, last := time.Now(), time.Now()
	chunks, stop := make(chan chunk, 1), make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() { readChunks(l, chunks, stop) })
	end := sync.OnceFunc(func() { close(stop); reader.Wait() })
	defer end()
	for done := false; !done; {
		c := <-chunks
		b.work(c.rows)
		for i := range c.rows {
			p := &c.rows[i]
			if errors.Is(p.err, errUnjudged) {
				b.x.unjudged++
				continue
			}
			if err := b.add(p); err != nil {
				return nil, err
			}
			if done = b.limit > 0 && b.x.rows() >= b.limit; done {
				break
			}
		}
		if done = done || errors.Is(c.err, io.EOF); !done && c.err != nil {
			return nil, c.err
		}
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			b.log.Info("indexing", "file", b.path, "rows", b.x.rows(), "elapsed", time.Since(start).Round(time.Second))
		}
	}
	end()
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

// readChunks reads lines until the file ends or stop is closed.
func readChunks(l *lines, chunks chan<- chunk, stop <-chan struct{}) {
	for {
		var c chunk
		for len(c.rows) < chunkRows && c.err == nil {
			var line []byte
			if line, c.err = l.read(); c.err == nil {
				c.rows = append(c.rows, pending{line: l.line, offset: l.offset, raw: bytes.Clone(line)})
			}
		}
		select {
		case chunks <- c:
		case <-stop:
			return
		}
		if c.err != nil {
			return
		}
	}
}

// work parses the rows of a chunk and counts their tokens. Which core does which row does not matter to the result.
func (b *builder) work(rows []pending) {
	var wait sync.WaitGroup
	var next atomic.Int64
	for range min(runtime.GOMAXPROCS(0), len(rows)) {
		wait.Go(func() {
			var buf []int32
			for i := next.Add(1) - 1; i < int64(len(rows)); i = next.Add(1) - 1 {
				buf = b.row(&rows[i], buf)
			}
		})
	}
	wait.Wait()
}

func (b *builder) row(p *pending, buf []int32) []int32 {
	if p.rec, p.err = b.format.parse(p.raw); p.err != nil {
		if !errors.Is(p.err, errUnjudged) {
			p.err = lineError(b.path, p.line, describe(p.raw, p.err))
		}
		return buf
	}
	for j := range p.rec.texts {
		buf = b.format.encode(buf[:0], b.tok, &p.rec, j)
		if len(buf) == 0 {
			p.err = lineError(b.path, p.line, fmt.Errorf("the tokenizer makes no token of the text %.40q", p.rec.texts[j]))
		}
		p.lengths = append(p.lengths, uint32(len(buf)))
		p.hashes = append(p.hashes, p.rec.hash(j))
		if b.keep != nil {
			p.tokens = append(p.tokens, buf...)
		}
	}
	return buf
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
	x.hashes = append(x.hashes, p.hashes...)
	x.lengths = append(x.lengths, p.lengths...)
	if b.keep != nil {
		tokens := p.tokens
		for _, n := range p.lengths {
			if err := b.keep.text(tokens[:n]); errors.Is(err, errTokensLeftOut) {
				b.keep = nil
				break
			} else if err != nil {
				return fmt.Errorf("cache the tokens of %s: %w", b.path, err)
			}
			tokens = tokens[n:]
		}
	}
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
	tokens *tokenStore // nil: texts are tokenised again
	digest string

	layout string  // one of Formats, for training data
	limit  int     // rows, at most; 0 = all
	corpus *corpus // where the rows' documents are; nil where the rows have them
}

func (s *source) close() error {
	err := errors.Join(s.file.Close(), s.tokens.close())
	if s.corpus != nil {
		return errors.Join(err, s.corpus.close())
	}
	return err
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
