package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Owner says which process has a folder.
type Owner struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Started time.Time `json:"started"`
	Version string    `json:"version,omitempty"`
}

// OwnedError says that another process has the folder.
type OwnedError struct {
	Dir   string
	Owner Owner
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("folder %s belongs to a running coordinator: process %d on %s, started %s",
		e.Dir, e.Owner.PID, e.Owner.Host, e.Owner.Started.Format(time.RFC3339))
}

// Lock is a folder's lock. It goes with the process, however that ends.
type Lock struct{ file *os.File }

const ownerFile = "owner.json"

// Acquire locks a folder, or returns an *OwnedError.
func Acquire(dir, version string) (*Lock, error) {
	path := filepath.Join(dir, ownerFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	if err := exclusive(f); err != nil {
		defer f.Close()
		if !errors.Is(err, errHeld) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		owned := &OwnedError{Dir: dir}
		// What cannot be read (the owner is just writing it) leaves the owner's fields empty, and the refusal stands.
		_ = json.NewDecoder(f).Decode(&owned.Owner)
		return nil, owned
	}
	host, _ := os.Hostname() // "" is what we know then
	b, err := json.Marshal(Owner{os.Getpid(), host, time.Now().Round(time.Second), version})
	if err == nil {
		err = errors.Join(f.Truncate(0), write(f, append(b, '\n')))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close())
	}
	return &Lock{f}, nil
}

func write(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

// Release gives the folder back.
func (l *Lock) Release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}
