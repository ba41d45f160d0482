package checkpoints

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Store keeps checkpoints: folders of files, one of which is the manifest. Local is one; checkpoints/object has another.
// checkpoints/storetest is what all of them must pass.
type Store interface {
	// Put makes a folder of the files, which are written in order, the manifest last: all or nothing, replacing what the
	// name held. Several writers of the same files may be at it at once, and one finishes what another began.
	Put(ctx context.Context, name string, files []File) error
	// List returns the names of all folders that were finished, also of damaged ones, in no order.
	List(ctx context.Context) ([]string, error)
	// Inspect reads a checkpoint's manifest and compares its files' sizes with it; with deep, all their bytes. Where the
	// manifest could be read it is returned beside the error. Of a name that is not there errors.Is(err, fs.ErrNotExist).
	Inspect(ctx context.Context, name string, deep bool) (*Manifest, error)
	// Fetch returns a local folder with the files of name, each compared with the manifest. It is for reading only.
	Fetch(ctx context.Context, name string) (string, error)
	// Remove removes a folder. Removing what is not there is no error.
	Remove(ctx context.Context, name string) error
	// Path returns what the checkpoint is called outside the store: a folder, or a URL.
	Path(name string) string
}

// ErrUnreachable marks errors that say nothing about a checkpoint: its store did not answer, or not to us.
var ErrUnreachable = errors.New("the store cannot be reached")

// Series is the checkpoints of one run in a store.
type Series struct {
	Store Store
}

// Entry is one checkpoint of a series.
type Entry struct {
	Name     string
	Step     int64
	Manifest *Manifest // nil if Err is about the manifest
	Err      error     // why it cannot be used; nil: nothing wrong was seen
	Dir      string    // local folder with its files, of Newest only
}

// Name returns the folder's name of a step.
func Name(step int64) string { return fmt.Sprintf("step-%08d", step) }

// ParseName is the inverse of Name.
func ParseName(name string) (int64, bool) {
	digits, ok := strings.CutPrefix(name, "step-")
	step, err := strconv.ParseInt(digits, 10, 64)
	return step, ok && err == nil && step >= 0 && Name(step) == name
}

// Write writes a checkpoint and returns its manifest. If the same checkpoint is there already and intact, nothing is
// written: a step that is executed again after a restart, or by the worker that stands by, gives the same one.
func (s *Series) Write(ctx context.Context, snapshot *Snapshot) (*Manifest, error) {
	name := Name(snapshot.Step)
	if err := snapshot.check(); err != nil {
		return nil, fmt.Errorf("write checkpoint %s: %w", name, err)
	}
	files, err := snapshot.files()
	if err != nil {
		return nil, fmt.Errorf("write checkpoint %s: %w", name, err)
	}
	m := &Manifest{Format: manifestFormat, Step: snapshot.Step, Origin: snapshot.Origin, Files: map[string]Checksum{}}
	for i := range files {
		files[i] = summed(files[i], m.Files)
	}
	files = append(files, File{ManifestName, func(w io.Writer) error {
		text, err := m.seal()
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	}})
	if have, err := s.Store.Inspect(ctx, name, true); err == nil && have.sameAs(files, m) {
		return have, nil
	}
	if err := s.Store.Put(ctx, name, files); err != nil {
		return nil, fmt.Errorf("write checkpoint %s: %w", name, err)
	}
	return m, nil
}

// sameAs writes the files to nowhere, to compare their sums with those of an intact checkpoint.
func (m *Manifest) sameAs(files []File, into *Manifest) bool {
	for _, f := range files {
		if err := f.Write(io.Discard); err != nil {
			return false
		}
	}
	return into.Checksum == m.Checksum
}

// summed notes a file's size and sum in sums when it has been written.
func summed(f File, sums map[string]Checksum) File {
	return File{f.Name, func(w io.Writer) error {
		h := summer{w: w, hash: sha256.New()}
		if err := f.Write(&h); err != nil {
			return err
		}
		sums[f.Name] = Checksum{h.size, hex.EncodeToString(h.hash.Sum(nil))}
		return nil
	}}
}

type summer struct {
	w    io.Writer
	hash hash.Hash
	size int64
}

func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	return n, err
}

// List returns the series' checkpoints, newest first. With deep, every file is read and compared with its sum; else
// only the manifest and the files' sizes are looked at.
func (s *Series) List(ctx context.Context, deep bool) ([]Entry, error) {
	names, err := s.Store.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var out []Entry
	for _, name := range names {
		if step, ok := ParseName(name); ok {
			out = append(out, Entry{Name: name, Step: step})
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return int(min(max(b.Step-a.Step, -1), 1)) })
	for i := range out {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out[i].inspect(ctx, s.Store, deep)
	}
	return out, nil
}

func (e *Entry) inspect(ctx context.Context, store Store, deep bool) {
	var err error
	if e.Manifest, err = store.Inspect(ctx, e.Name, deep); err == nil && e.Manifest.Step != e.Step {
		err = fmt.Errorf("the manifest is of step %d", e.Manifest.Step)
	}
	if err != nil {
		e.Err = fmt.Errorf("checkpoint %s: %w", e.Name, err)
	}
}

// ErrNone says that a series holds no usable checkpoint.
var ErrNone = errors.New("no usable checkpoint")

// Newest returns the newest checkpoint that is intact, with a local folder of its files, and an error for each newer one
// that is not: the caller warns with them. ErrNone if there is none. A store that cannot be reached is an error, not a
// reason to take an older one.
func (s *Series) Newest(ctx context.Context) (e Entry, damaged []error, err error) {
	entries, err := s.List(ctx, false)
	if err != nil {
		return Entry{}, nil, err
	}
	for _, e := range entries {
		if e.Err == nil {
			if e.Dir, err = s.Store.Fetch(ctx, e.Name); err != nil {
				e.Err = fmt.Errorf("checkpoint %s: %w", e.Name, err)
			}
		}
		if err := ctx.Err(); err != nil {
			return Entry{}, damaged, err
		}
		if errors.Is(e.Err, ErrUnreachable) {
			return Entry{}, damaged, e.Err
		}
		if e.Err != nil {
			damaged = append(damaged, e.Err)
			continue
		}
		return e, damaged, nil
	}
	return Entry{}, damaged, ErrNone
}
