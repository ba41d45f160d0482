package data

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Rows reads the rows of a file of objects, whatever they mean: JSON lines, plain or gzip, or Parquet. A path like
// test-*-of-00003.parquet is a table in parts.
type Rows struct {
	lines *lines
}

// Row is one row: an object with keys. Its methods' errors are *LineError and name file, row and key.
type Row struct {
	File string
	Line int // 1-based; of Parquet, the number of the row

	keys []string
	raw  [][]byte // the JSON of each key's value
}

// OpenRows opens a file of rows, told by its content.
func OpenRows(path string) (*Rows, error) {
	l, err := openLines(path)
	if err != nil {
		return nil, err
	}
	return &Rows{l}, nil
}

// OpenText opens a file of rows as the text of its lines: JSON lines, decompressed, and of Parquet each row as a line.
func OpenText(path string) (io.ReadCloser, error) {
	l, err := openLines(path)
	if err != nil {
		return nil, err
	}
	return &lineText{lines: l}, nil
}

type lineText struct {
	lines *lines
	rest  []byte
}

func (t *lineText) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		line, err := t.lines.one()
		if err != nil {
			return 0, err
		}
		t.rest = append(append(t.rest[:0], line...), '\n')
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

func (t *lineText) Close() error { return t.lines.close() }

// Next returns the next row, or io.EOF. After a *LineError the next call goes on with the row after it; after any
// other error the file cannot be read further.
func (r *Rows) Next() (Row, error) {
	line, err := r.lines.read()
	if err != nil {
		return Row{}, err
	}
	row := Row{File: r.lines.file, Line: r.lines.line}
	line = slices.Clone(line)
	err = checkText(line)
	if err == nil {
		s := scanner{b: line}
		err = s.object(func(key string) error {
			start := s.i
			if err := s.value(0); err != nil {
				return err
			}
			row.keys, row.raw = append(row.keys, key), append(row.raw, line[start:s.i])
			return nil
		})
		if err == nil {
			err = s.end()
		}
	}
	if err != nil {
		return row, lineError(row.File, row.Line, describe(line, err))
	}
	return row, nil
}

// All iterates over the rows and ends after the first error.
func (r *Rows) All() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for {
			row, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// Close closes the file.
func (r *Rows) Close() error { return r.lines.close() }

// Keys returns the row's keys in order.
func (r *Row) Keys() []string { return r.keys }

// Has reports whether the row has a value other than null under a key.
func (r *Row) Has(key string) bool { k := r.Kind(key); return k != "" && k != "null" }

// Kind returns what is under a key: string, number, boolean, list, object, null, or "" for nothing.
func (r *Row) Kind(key string) string {
	if s := r.at(key); s != nil {
		return s.kind()
	}
	return ""
}

func (r *Row) at(key string) *scanner {
	if i := slices.Index(r.keys, key); i >= 0 {
		return &scanner{b: r.raw[i]}
	}
	return nil
}

func (r *Row) fault(key, problem string) error {
	return &LineError{File: r.File, Line: r.Line, Key: key, Problem: problem}
}

// value calls read with a scanner at the key's value.
func (r *Row) value(key string, read func(s *scanner) error) error {
	s := r.at(key)
	if s == nil {
		return r.fault(key, fmt.Sprintf("missing (found %s)", list(r.keys)))
	}
	if err := read(s); err != nil {
		return r.fault(key, err.Error())
	}
	return nil
}

// Text returns the string under a key.
func (r *Row) Text(key string) (text string, err error) {
	err = r.value(key, func(s *scanner) (err error) { text, err = s.text(key); return err })
	return text, err
}

// Texts returns the list of strings under a key. One string is a list of one; null and a missing key are none.
func (r *Row) Texts(key string) (texts []string, err error) {
	if !r.Has(key) {
		return nil, nil
	}
	err = r.value(key, func(s *scanner) error {
		if s.kind() == "string" {
			one, err := s.str()
			texts = []string{one}
			return err
		}
		if k := s.kind(); k != "list" {
			return errors.New("found " + article(k) + "; a list of strings is allowed")
		}
		return s.list(func(int) error {
			t, err := s.text(key)
			texts = append(texts, t)
			return err
		})
	})
	return texts, err
}

// ID returns an id or a label: a string, or a number as it is written.
func (r *Row) ID(key string) (id string, err error) {
	err = r.value(key, func(s *scanner) (err error) { id, err = s.id(key); return err })
	return id, err
}

// IDs returns a list of ids or labels; one alone is a list of one; null and a missing key are none.
func (r *Row) IDs(key string) (ids []string, err error) {
	if !r.Has(key) {
		return nil, nil
	}
	err = r.value(key, func(s *scanner) (err error) {
		if s.kind() != "list" {
			one, err := s.id(key)
			ids = []string{one}
			return err
		}
		ids, err = s.ids(key)
		return err
	})
	return ids, err
}

// Float returns the number under a key; a string that is a number counts.
func (r *Row) Float(key string) (x float64, err error) {
	err = r.value(key, func(s *scanner) error {
		text, err := s.numeral(key)
		if err != nil {
			return err
		}
		if x, err = strconv.ParseFloat(text, 64); err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("found %.40q; a finite number is allowed", text)
		}
		return nil
	})
	return x, err
}

// Int returns the integer under a key, perhaps written 1.0 or true.
func (r *Row) Int(key string) (n int, err error) {
	if r.Kind(key) == "boolean" {
		if string(r.at(key).b) == "true" {
			return 1, nil
		}
		return 0, nil
	}
	err = r.value(key, func(s *scanner) error {
		text, err := s.numeral(key)
		if err != nil {
			return err
		}
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
			return fmt.Errorf("found %.40q; an integer is allowed", text)
		}
		n = int(x)
		return nil
	})
	return n, err
}

func (s *scanner) numeral(key string) (string, error) {
	switch k := s.kind(); k {
	case "number":
		return s.number()
	case "string":
		return s.str()
	default:
		return "", &keyError{key: key, problem: "found " + article(k) + "; a number is allowed", at: -1}
	}
}

// Objects returns the list of objects under a key, such as passages; null and a missing key are none.
func (r *Row) Objects(key string) (rows []Row, err error) {
	if !r.Has(key) {
		return nil, nil
	}
	err = r.value(key, func(s *scanner) error {
		if k := s.kind(); k != "list" {
			return errors.New("found " + article(k) + "; a list of objects is allowed")
		}
		return s.list(func(int) error {
			row := Row{File: r.File, Line: r.Line}
			err := s.object(func(key string) error {
				start := s.i
				if err := s.value(0); err != nil {
					return err
				}
				row.keys, row.raw = append(row.keys, key), append(row.raw, s.b[start:s.i])
				return nil
			})
			rows = append(rows, row)
			return err
		})
	})
	return rows, err
}

// FindRows finds the file of rows that a folder has under a name, in one of the forms that data sets come in:
// NAME.jsonl, NAME.jsonl.gz, NAME.parquet, a table in parts, or a folder NAME or data with the only one of these or
// with the one of a split. "" as a name stands for the folder itself. os.ErrNotExist: there is none; several are an
// error that lists them.
func FindRows(dir, name, split string) (string, error) {
	var found []string
	for i, place := range []struct {
		dir   string
		names []string
	}{{dir, []string{name}}, {filepath.Join(dir, name), []string{split, name}}, {filepath.Join(dir, "data"), []string{name, split}}} {
		files, err := rowFiles(place.dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		for _, f := range files {
			if want := slices.Contains(place.names, stem(f)); want && stem(f) != "" || len(files) == 1 && i == 1 && split == "" {
				found = append(found, f)
			}
		}
		if len(found) > 0 {
			break
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%s: no rows of %s (%w): sought %s.jsonl, %[2]s.jsonl.gz, %[2]s.parquet and a folder %[2]s", dir, name, os.ErrNotExist, name)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%s: the rows of %s are there %d times: keep one of %s", dir, name, len(found), strings.Join(found, ", "))
}
