package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Local is a store in a folder of this machine, or of a file system that all coordinators mount.
type Local struct {
	dir string
	fs  fileSystem
}

// NewLocal returns the store in dir, which is made when first written to.
func NewLocal(dir string) *Local { return &Local{dir, disk{}} }

// temporary begins the names of folders that are being written or thrown away.
const temporary = ".writing-"

// staleAfter is how long a temporary folder must not have changed before another writer removes it.
const staleAfter = time.Hour

// Put writes the files into a temporary folder, syncs each and the folder, then renames it: a crash leaves either
// the whole checkpoint or none of it under its name.
func (l *Local) Put(ctx context.Context, name string, files []File) error {
	if !PlainName(name) {
		return fmt.Errorf("name %q is not allowed", name)
	}
	if err := l.fs.MkdirAll(l.dir); err != nil {
		return err
	}
	_ = l.Sweep(staleAfter) // leftovers of crashes; that they stay is no reason not to write
	tmp, err := l.fs.MkdirTemp(l.dir, temporary+name+"-*")
	if err != nil {
		return err
	}
	if err := l.fill(ctx, tmp, files); err != nil {
		return errors.Join(err, l.fs.RemoveAll(tmp))
	}
	if err := l.replace(tmp, filepath.Join(l.dir, name)); err != nil {
		return errors.Join(err, l.fs.RemoveAll(tmp))
	}
	return l.fs.SyncDir(l.dir)
}

func (l *Local) fill(ctx context.Context, dir string, files []File) error {
	for _, f := range files {
		if err := l.writeFile(ctx, filepath.Join(dir, f.Name), f); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // MkdirTemp makes it private
		return err
	}
	return l.fs.SyncDir(dir)
}

func (l *Local) writeFile(ctx context.Context, path string, f File) error {
	out, err := l.fs.Create(path)
	if err != nil {
		return err
	}
	if err := f.Write(&cancellable{ctx, out}); err != nil {
		return errors.Join(err, out.Close())
	}
	if err := out.Sync(); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}

// replace renames tmp to target; a folder that is there (a damaged one, or one of another life of the run) is moved
// away first, since a folder cannot be renamed over a filled one.
func (l *Local) replace(tmp, target string) error {
	err := l.fs.Rename(tmp, target)
	if err == nil {
		return nil
	}
	if _, stat := os.Stat(target); stat != nil {
		return err
	}
	old := tmp + "-old"
	if err := l.fs.Rename(target, old); err != nil {
		return err
	}
	if err := l.fs.Rename(tmp, target); err != nil {
		return errors.Join(err, l.fs.Rename(old, target))
	}
	return l.fs.RemoveAll(old)
}

// cancellable stops a long write when its context ends.
type cancellable struct {
	ctx context.Context
	w   io.Writer
}

func (c *cancellable) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// Sweep removes temporary folders that have not changed for that long. With 0, which only the one owner of the store
// may use, it removes all.
func (l *Local) Sweep(unchanged time.Duration) error {
	entries, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(l.dir, e.Name())
		if strings.HasPrefix(e.Name(), temporary) && time.Since(lastChange(path)) >= unchanged {
			errs = append(errs, l.fs.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// lastChange returns the newest time of a folder and its files, zero if it is gone.
func lastChange(dir string) (newest time.Time) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		if info, err := e.Info(); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return nil
	})
	return newest
}

// List implements Store.
func (l *Local) List(context.Context) ([]string, error) {
	entries, err := os.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// Inspect implements Store.
func (l *Local) Inspect(ctx context.Context, name string, deep bool) (*Manifest, error) {
	if !PlainName(name) {
		return nil, fmt.Errorf("name %q is not allowed", name)
	}
	m, err := ReadManifest(l.Path(name))
	switch {
	case err != nil:
		return nil, err
	case deep:
		return m, m.CheckFiles(ctx, l.Path(name))
	}
	return m, m.checkSizes(l.Path(name))
}

// Fetch implements Store: the files are here.
func (l *Local) Fetch(ctx context.Context, name string) (string, error) {
	_, err := l.Inspect(ctx, name, true)
	return l.Path(name), err
}

// Path implements Store.
func (l *Local) Path(name string) string { return filepath.Join(l.dir, name) }

// Remove moves the folder out of sight first, so that a crash in the middle leaves no half checkpoint.
func (l *Local) Remove(_ context.Context, name string) error {
	if !PlainName(name) {
		return fmt.Errorf("name %q is not allowed", name)
	}
	path := filepath.Join(l.dir, name)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	trash, err := l.fs.MkdirTemp(l.dir, temporary+name+"-*")
	if err != nil {
		return err
	}
	if err := l.fs.Rename(path, filepath.Join(trash, name)); err != nil {
		return errors.Join(err, l.fs.RemoveAll(trash))
	}
	return l.fs.RemoveAll(trash)
}
