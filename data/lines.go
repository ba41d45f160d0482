package data

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxLine bounds one line of a file, so that a file without line ends cannot take all memory.
const maxLine = 256 << 20

// lines reads a text file line by line, plain or gzip (told by content, not by name; several members are one
// file), without a byte-order mark and without CR before LF. Of Parquet, told by content too, each row is a line.
type lines struct {
	file   string
	closer io.Closer
	in     *bufio.Reader
	table  *table // Parquet; in is nil then
	gzip   bool
	line   int   // of the last line returned, 1-based
	offset int64 // of the last line returned, in the decompressed file
	next   int64 // of the line after it
	buf    []byte
}

// openLines opens path. The errors name it.
func openLines(path string) (*lines, error) {
	if table, err := openTable(path); table != nil || err != nil {
		return &lines{file: path, table: table, closer: table}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return nil, errors.Join(fmt.Errorf("read %s: a folder; a file of JSON lines is needed", path), err, f.Close())
	}
	l, err := newLines(path, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l.closer = f
	return l, nil
}

// newLines reads r; file is its name in errors.
func newLines(file string, r io.Reader) (*lines, error) {
	l := &lines{file: file, in: bufio.NewReaderSize(r, 1<<18)}
	magic, _ := l.in.Peek(2)
	if len(magic) == 0 {
		return nil, fmt.Errorf("read %s: the file is empty", file)
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(l.in)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, streamError(err))
		}
		l.in, l.gzip = bufio.NewReaderSize(z, 1<<18), true
	}
	head, err := l.in.Peek(64)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", file, streamError(err))
	}
	if err := refuseForm(head); err != nil {
		return nil, &FileError{File: file, Problem: err.Error()}
	}
	if bytes.HasPrefix(head, []byte("\xef\xbb\xbf")) {
		l.in.Discard(3)
		l.next = 3
	}
	return l, nil
}

// FileError says that a file as a whole is not what is needed: no line of it can be skipped to go on.
type FileError struct {
	File    string
	Problem string
}

func (e *FileError) Error() string { return e.File + ":1: " + e.Problem }

// refuseForm names files that are no JSON lines at all.
func refuseForm(head []byte) error {
	switch first := bytes.TrimLeft(head, " \t\r\n"); {
	case bytes.HasPrefix(head, []byte("version https://git-lfs.github.com/")):
		return errors.New("a Git LFS pointer and not the file itself: run `git lfs pull` where it comes from")
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")),
		len(head) >= 4 && (head[0] == 0 && head[1] != 0 || head[0] != 0 && head[1] == 0):
		return errors.New("the text is UTF-16; UTF-8 is needed (iconv -f UTF-16 -t UTF-8)")
	case bytes.HasPrefix(first, []byte("[")):
		return errors.New("found a JSON list; one object a line is needed (jq -c '.[]')")
	case bytes.HasPrefix(first, []byte("PAR1")):
		return errors.New("a Parquet file, which cannot be read from a stream: give the path of the file")
	}
	return nil
}

// read returns the next line that is not blank; io.EOF ends the file. The slice is valid until the next call.
func (l *lines) read() ([]byte, error) {
	for {
		line, err := l.one()
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimLeft(line, " \t\r\n")) > 0 {
			return line, nil
		}
	}
}

// copied reports whether the lines cannot be read again by their offsets in the file.
func (l *lines) copied() bool { return l.gzip || l.table != nil }

func (l *lines) one() ([]byte, error) {
	l.buf = l.buf[:0]
	l.line++
	if l.table != nil {
		return l.table.next()
	}
	l.offset = l.next
	for {
		part, err := l.in.ReadSlice('\n')
		l.buf = append(l.buf, part...)
		l.next += int64(len(part))
		if len(l.buf) > maxLine {
			return nil, fmt.Errorf("read %s:%d: the line is longer than %d bytes", l.file, l.line, maxLine)
		}
		switch {
		case err == nil:
			return bytes.TrimSuffix(l.buf[:len(l.buf)-1], []byte("\r")), nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(l.buf) > 0:
			return l.buf, nil
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("read %s:%d: %w", l.file, l.line, streamError(err))
		}
	}
}

// drain reads to the end of the file, so that a gzip check sum after the last row wanted is still checked.
func (l *lines) drain() error {
	if !l.gzip {
		return nil
	}
	if _, err := io.Copy(io.Discard, l.in); err != nil {
		return fmt.Errorf("read %s: %w", l.file, streamError(err))
	}
	return nil
}

func (l *lines) close() error {
	if l.closer == nil {
		return nil
	}
	return l.closer.Close()
}

// streamError says in words what is wrong with a compressed stream.
func streamError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("the gzip stream ends early: the file is cut, rows are missing")
	case errors.Is(err, gzip.ErrChecksum):
		return errors.New("the gzip check sum is wrong: the file is damaged")
	case errors.Is(err, gzip.ErrHeader):
		return errors.New("bytes that are no gzip member, at the start or after the end of the gzip stream")
	default:
		return fmt.Errorf("decompress: %w", err)
	}
}
