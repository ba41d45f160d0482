package checkpoints

import (
	"io"
	"os"
	"runtime"
)

// fileSystem is what Local does to a disk, so that tests can put faults between.
type fileSystem interface {
	MkdirAll(name string) error
	MkdirTemp(dir, pattern string) (string, error)
	Create(name string) (file, error)
	Rename(from, to string) error
	RemoveAll(name string) error
	SyncDir(name string) error
}

type file interface {
	io.Writer
	Sync() error
	Close() error
}

type disk struct{}

func (disk) MkdirAll(name string) error                    { return os.MkdirAll(name, 0o755) }
func (disk) MkdirTemp(dir, pattern string) (string, error) { return os.MkdirTemp(dir, pattern) }
func (disk) Rename(from, to string) error                  { return os.Rename(from, to) }
func (disk) RemoveAll(name string) error                   { return os.RemoveAll(name) }

func (disk) Create(name string) (file, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

// SyncDir makes a folder's entries durable. Windows cannot open folders to do so.
func (disk) SyncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return err
	}
	return d.Close()
}
