package data

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data/parquet"
)

// table reads the rows of a Parquet file, or of one that is cut into parts, as lines of JSON.
type table struct {
	parts []string // the rest
	now   *parquet.Reader
}

// partName is how the Hub names the parts of a table: train-00003-of-00010.parquet. All of them together are written
// with a star: train-*-of-00010.parquet.
var partName = regexp.MustCompile(`^(.*)-(\d{5}|\*)-of-(\d{5})\.parquet$`)

// tableParts returns the files that a path stands for: itself, or the parts of a table.
func tableParts(path string) ([]string, error) {
	m := partName.FindStringSubmatch(filepath.Base(path))
	if m == nil || m[2] != "*" {
		return []string{path}, nil
	}
	n, err := strconv.Atoi(m[3])
	if err != nil || n < 1 {
		return nil, fmt.Errorf("read %s: a table of %s parts", path, m[3])
	}
	parts := make([]string, n)
	for i := range parts {
		parts[i] = filepath.Join(filepath.Dir(path), fmt.Sprintf("%s-%05d-of-%s.parquet", m[1], i, m[3]))
		if !exists(parts[i]) {
			return nil, fmt.Errorf("read %s: the part %s is missing", path, filepath.Base(parts[i]))
		}
	}
	return parts, nil
}

// wholeTable returns the path of the table that a file is a part of, or the path itself.
func wholeTable(path string) string {
	m := partName.FindStringSubmatch(filepath.Base(path))
	switch {
	case m == nil:
		return path
	case m[3] == "00001":
		return filepath.Join(filepath.Dir(path), m[1]+"-00000-of-00001.parquet")
	}
	return filepath.Join(filepath.Dir(path), m[1]+"-*-of-"+m[3]+".parquet")
}

// openTable opens a path that is Parquet by its content; nil, nil: it is something else.
func openTable(path string) (*table, error) {
	parts, err := tableParts(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(parts[0])
	if err != nil {
		return nil, err
	}
	head := make([]byte, len(parquet.Magic))
	_, err = io.ReadFull(f, head)
	f.Close()
	if err != nil || !slices.Contains([]string{parquet.Magic, "PARE"}, string(head)) {
		if err == nil && strings.HasSuffix(path, ".parquet") && !strings.HasPrefix(string(head), "vers") {
			return nil, &FileError{File: path, Problem: fmt.Sprintf("begins with %q and is no Parquet file", head)}
		}
		return nil, nil // empty files, folders and pointers of Git LFS are named by whoever reads them as lines
	}
	t := &table{parts: parts[1:]}
	if t.now, err = parquet.Open(parts[0]); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *table) next() ([]byte, error) {
	for {
		row, err := t.now.Next()
		if !errors.Is(err, io.EOF) || len(t.parts) == 0 {
			return row, err
		}
		next, err := parquet.Open(t.parts[0])
		if err != nil {
			return nil, err
		}
		if err := t.now.Close(); err != nil {
			return nil, errors.Join(err, next.Close())
		}
		t.now, t.parts = next, t.parts[1:]
	}
}

// Close closes the file.
func (t *table) Close() error { return t.now.Close() }
