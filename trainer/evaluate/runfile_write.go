package evaluate

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// writeFile writes beside the file and renames, so that a file is whole or not there. write gets the ending without
// .gz.
func writeFile(path string, write func(w io.Writer, ending string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone already if all went well
	buffered := bufio.NewWriter(f)
	var out io.Writer = buffered
	plain := strings.TrimSuffix(path, ".gz")
	var z *gzip.Writer
	if plain != path {
		z = gzip.NewWriter(buffered)
		out = z
	}
	err = write(out, filepath.Ext(plain))
	if z != nil {
		err = errors.Join(err, z.Close())
	}
	err = errors.Join(err, buffered.Flush(), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
