// Package golden finds the reference files that the Golden tests compare with. It is used by tests only.
package golden

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

//go:embed files/*.tar.gz
var archives embed.FS

// Dir returns the folder of one set of goldens, such as "losses" or "backbones": under COUNTERPOINT_GOLDEN if
// that is set, else the whole set in ../shared/golden beside the repository, else the repository's own copy (of some
// sets a part), unpacked once per content into the temporary folder.
func Dir(t testing.TB, set string) string {
	t.Helper()
	if root := os.Getenv("COUNTERPOINT_GOLDEN"); root != "" {
		dir := filepath.Join(root, set)
		if _, err := os.Stat(dir); err != nil {
			t.Fatalf("COUNTERPOINT_GOLDEN: %v", err)
		}
		return dir
	}
	if dir := filepath.Join(beside(), "golden", set); exists(dir) {
		return dir
	}
	packed, err := archives.ReadFile("files/" + set + ".tar.gz")
	if err != nil {
		t.Fatalf("golden set %q is not in the repository: %v", set, err)
	}
	sum := sha256.Sum256(packed)
	root := filepath.Join(os.TempDir(), "counterpoint-golden-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(root); errors.Is(err, os.ErrNotExist) {
		if err := unpackOnce(packed, root); err != nil {
			t.Fatalf("unpack golden set %q: %v", set, err)
		}
	}
	return filepath.Join(root, set)
}

// Data returns a folder of the large test data: under COUNTERPOINT_DATA, or ../shared/data beside the
// repository. The test is skipped, by name, where neither has it.
func Data(t testing.TB, path string) string {
	t.Helper()
	root := os.Getenv("COUNTERPOINT_DATA")
	if root == "" {
		root = filepath.Join(beside(), "data")
	}
	dir := filepath.Join(root, path)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("data %q is not here (set COUNTERPOINT_DATA): %v", path, err)
	}
	return dir
}

// beside is the folder that may lie beside the repository.
func beside() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..", "shared")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// unpackOnce unpacks beside root and renames, so that tests of several packages may race for it.
func unpackOnce(packed []byte, root string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(root), filepath.Base(root)+"-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := unpack(packed, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, root); err != nil {
		if _, stat := os.Stat(root); stat == nil {
			return nil // another test was first
		}
		return err
	}
	return nil
}

func unpack(packed []byte, dir string) error {
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("entry %q leaves the archive", h.Name)
		}
		name := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(name, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeLink { // equal files are packed once
			if !filepath.IsLocal(h.Linkname) {
				return fmt.Errorf("link %q leaves the archive", h.Linkname)
			}
			if err := os.Link(filepath.Join(dir, h.Linkname), name); err != nil {
				return err
			}
			continue
		}
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, tr); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
}
