// Package parquet reads rows of Parquet files, each as a line of JSON, and writes tables of vectors. It is the only
// importer of the Parquet library, whose panics end here.
package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	lib "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Magic is what a Parquet file begins and ends with.
const Magic = "PAR1"

// maxFooter bounds the memory that a file's own description can take.
const maxFooter = 256 << 20

// Error is a fault of a Parquet file.
type Error struct {
	File   string
	Group  int    // row group, 0-based; -1 = none in particular
	Column string // path of the column, "" = none in particular
	Err    error
}

func (e *Error) Error() string {
	where := e.File + ": "
	if e.Group >= 0 {
		where += fmt.Sprintf("row group %d: ", e.Group)
	}
	if e.Column != "" {
		where += fmt.Sprintf("column %q: ", e.Column)
	}
	return where + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Reader reads the rows of one file in order.
type Reader struct {
	name    string
	closer  io.Closer
	file    *lib.File
	root    *field
	columns []*column
	group   int   // of the next row
	left    int64 // rows of this group to come
	out     []byte
}

// Open opens a file.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("read %s: a folder; a Parquet file is needed", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, err := NewReader(path, f, info.Size())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.closer = f
	return r, nil
}

// NewReader reads a file of so many bytes; name is used in errors.
func NewReader(name string, at io.ReaderAt, size int64) (r *Reader, err error) {
	r = &Reader{name: name, group: -1}
	defer r.recover(&err, nil)
	meta, err := footer(at, size)
	if err != nil {
		return nil, r.fault(nil, err)
	}
	if r.root, err = schema(meta.Schema); err != nil {
		return nil, r.fault(nil, err)
	}
	if err := r.codecs(meta); err != nil {
		return nil, err
	}
	// The page index is not needed, and damage in it would keep sound rows from being read.
	if r.file, err = lib.OpenFile(at, size, lib.SkipPageIndex(true), lib.SkipBloomFilters(true), lib.ReadBufferSize(1<<16)); err != nil {
		return nil, r.fault(nil, err)
	}
	for i, g := range r.file.RowGroups() {
		if n := len(g.ColumnChunks()); n != r.root.leaves {
			r.group = i
			return nil, r.fault(nil, fmt.Errorf("%d columns, the schema has %d", n, r.root.leaves))
		}
	}
	return r, nil
}

// codecs checks the compression of each column. The library's reader of LZ4 doubles its buffer until damaged data fits,
// which ends the process.
func (r *Reader) codecs(meta *format.FileMetaData) error {
	for i, g := range meta.RowGroups {
		for j := range g.Columns {
			switch c := g.Columns[j].MetaData.Codec; c {
			case format.Uncompressed, format.Snappy, format.Gzip, format.Zstd, format.Brotli:
			default:
				r.group = i
				return r.fault(&column{path: strings.Join(g.Columns[j].MetaData.PathInSchema, ".")},
					fmt.Errorf("compressed with %s, which is not supported: write the file with snappy, gzip, zstd or brotli, or without compression", c))
			}
		}
	}
	return nil
}

// footer reads the file's description of itself, so that a hostile schema is refused before the library walks it.
func footer(at io.ReaderAt, size int64) (*format.FileMetaData, error) {
	tail := make([]byte, 8)
	if size < 12 {
		return nil, fmt.Errorf("%d bytes are no Parquet file", size)
	}
	if _, err := at.ReadAt(tail, size-8); err != nil {
		return nil, fmt.Errorf("read the end of the file: %w", err)
	}
	switch string(tail[4:]) {
	case Magic:
	case "PARE":
		return nil, errors.New("the file is encrypted, which is not supported")
	default:
		return nil, fmt.Errorf("the file ends with %q and not with %s: it is cut, or no Parquet file", tail[4:], Magic)
	}
	length := int64(binary.LittleEndian.Uint32(tail))
	if length > size-12 || length > maxFooter {
		return nil, fmt.Errorf("its description should have %d bytes, the file has %d: it is damaged", length, size)
	}
	raw := make([]byte, length)
	if _, err := at.ReadAt(raw, size-8-length); err != nil {
		return nil, fmt.Errorf("read the file's description: %w", err)
	}
	var meta format.FileMetaData
	if err := thrift.Unmarshal(&thrift.CompactProtocol{}, raw, &meta); err != nil {
		return nil, fmt.Errorf("the file's description is damaged: %w", err)
	}
	return &meta, nil
}

// Rows returns how many rows the file says that it has.
func (r *Reader) Rows() int64 { return r.file.NumRows() }

// Columns returns the names of the fields of a row.
func (r *Reader) Columns() []string {
	names := make([]string, len(r.root.fields))
	for i, f := range r.root.fields {
		names[i] = f.name
	}
	return names
}

// Next returns the next row as one line of JSON, or io.EOF. The slice is valid until the next call. Lists are lists,
// groups objects, and what JSON lacks is a string; nothing is left out. Text is copied as it is, valid UTF-8 or not.
func (r *Reader) Next() (row []byte, err error) {
	var at *column
	defer r.recover(&err, &at)
	for r.left == 0 {
		if err := r.finish(&at); err != nil {
			return nil, err
		}
		groups := r.file.RowGroups()
		if r.group+1 >= len(groups) {
			return nil, io.EOF
		}
		r.group++
		g := groups[r.group]
		if r.left = g.NumRows(); r.left < 0 {
			return nil, r.fault(nil, fmt.Errorf("%d rows", r.left))
		}
		r.columns = r.columns[:0]
		for i, c := range g.ColumnChunks() {
			r.columns = append(r.columns, &column{index: i, path: r.root.column(i), chunk: c})
		}
	}
	w := rowWriter{columns: r.columns, out: r.out[:0], at: &at}
	if err := w.group(r.root, 0); err != nil {
		return nil, r.fault(at, err)
	}
	r.out = w.out
	r.left--
	return r.out, nil
}

// finish ends a row group: every column must have been used up.
func (r *Reader) finish(at **column) error {
	for _, c := range r.columns {
		*at = c
		if _, err := c.peek(); err == nil {
			return r.fault(c, errors.New("more values than the group has rows"))
		} else if !errors.Is(err, io.EOF) {
			return r.fault(c, err)
		}
		c.close()
	}
	*at, r.columns = nil, r.columns[:0]
	return nil
}

// Close closes the file.
func (r *Reader) Close() error {
	for _, c := range r.columns {
		c.close()
	}
	r.columns = nil
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}

func (r *Reader) fault(c *column, err error) error {
	e := &Error{File: r.name, Group: r.group, Err: err}
	if c != nil {
		e.Column = c.path
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		e.Err = errors.New("the values end early: the file is damaged")
	}
	return e
}

// recover turns a panic of the library, which trusts much that a damaged file says, into an error.
func (r *Reader) recover(err *error, at **column) {
	p := recover()
	if p == nil {
		return
	}
	var c *column
	if at != nil {
		c = *at
	}
	*err = r.fault(c, fmt.Errorf("damaged: %v", p))
}
