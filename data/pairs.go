package data

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Reader reads the pairs of one file, JSON lines plain or gzip, strictly: nothing is guessed, repaired or left
// out in silence.
type Reader struct {
	lines *lines
}

// OpenPairs opens the pairs at path.
func OpenPairs(path string) (*Reader, error) {
	l, err := openLines(path)
	if err != nil {
		return nil, err
	}
	return &Reader{lines: l}, nil
}

// NewReader reads pairs from r; file is its name in errors.
func NewReader(file string, r io.Reader) (*Reader, error) {
	l, err := newLines(file, r)
	if err != nil {
		return nil, err
	}
	return &Reader{lines: l}, nil
}

// Next returns the next pair, or io.EOF. After a *LineError the next call goes on with the line after it; after
// any other error the file cannot be read further.
func (r *Reader) Next() (Pair, error) {
	line, err := r.lines.read()
	if err != nil {
		return Pair{}, err
	}
	p, err := parsePair(line)
	if err != nil {
		return Pair{}, lineError(r.lines.file, r.lines.line, describe(line, err))
	}
	return p, nil
}

// Line returns the number of the line last read, 1-based.
func (r *Reader) Line() int { return r.lines.line }

// Close closes the file.
func (r *Reader) Close() error { return r.lines.close() }

// describe puts a fault of a line in better words where the line shows its cause.
func describe(line []byte, err error) error {
	if bytes.IndexByte(line, 0) >= 0 && len(bytes.Trim(line, "\x00 \t\r\n")) == 0 {
		return errors.New("zero bytes, as a crash of the writer leaves them: the file is not whole")
	}
	return err
}

// errNoRows is the fault of a file that has only blank lines, or only lines that were skipped.
func errNoRows(file string, skipped int) error {
	if skipped > 0 {
		return fmt.Errorf("read %s: no rows are left: all %d were skipped for errors", file, skipped)
	}
	return fmt.Errorf("read %s: no rows", file)
}
