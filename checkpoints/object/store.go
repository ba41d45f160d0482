package object

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// Options of a store. The zero value will do.
type Options struct {
	Cache     string        // folder of the spools of all stores; "" = counterpoint/stores in the user's cache folder
	Log       *slog.Logger  // nil = none
	Patience  time.Duration // how long a request is tried again; 0 = 30 s
	Stall     time.Duration // how long the bytes of a request may stand still; 0 = 20 s
	PartSize  int64         // of uploads, in bytes, at least 5 MiB; 0 = 16 MiB
	Parallel  int           // parts sent at once; 0 = 4
	Transport http.RoundTripper
}

// Store is a checkpoints.Store in a bucket. It is safe for use by many goroutines and, on one place, by many machines.
type Store struct {
	place Place
	core  *minio.Core
	spool *spool
	o     Options
	sent  atomic.Int64 // bytes of parts that arrived
}

// Open returns the store of a URL. Nothing is asked of the server yet: see Check.
func Open(where string, o Options) (*Store, error) {
	p, err := Parse(where)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("folder of the checkpoints on this machine: %w; set XDG_CACHE_HOME", err)
		}
		o.Cache = filepath.Join(dir, "counterpoint", "stores")
	}
	set(&o.Patience, 30*time.Second)
	set(&o.Stall, 20*time.Second)
	set(&o.PartSize, 16<<20)
	set(&o.Parallel, 4)
	s := &Store{place: p, o: o}
	if s.core, err = newCore(p, o.Transport); err != nil {
		return nil, fmt.Errorf("checkpoint store %s: %w", p, err)
	}
	id := sha256.Sum256([]byte(p.Endpoint.String() + "\n" + p.Bucket + "\n" + p.Prefix))
	s.spool = newSpool(filepath.Join(o.Cache, hex.EncodeToString(id[:8])), p.Spool)
	return s, nil
}

func set[T comparable](to *T, usual T) {
	var zero T
	if *to == zero {
		*to = usual
	}
}

// probeName is written and removed again by Check.
const probeName = ".counterpoint-probe"

// Check asks the server whether the bucket is there and may be listed, written and removed from.
func (s *Store) Check(ctx context.Context) error {
	if _, err := s.list(ctx, ""); err != nil {
		return err
	}
	key := s.place.key(probeName)
	err := s.try(ctx, "upload", key, func(ctx context.Context, _ func()) error {
		_, err := s.core.PutObject(ctx, s.place.Bucket, key, strings.NewReader(""), 0, "", "", s.options(key, ""))
		return err
	})
	if err != nil {
		return err
	}
	return s.delete(ctx, key)
}

// Path implements checkpoints.Store: the URL by which export, eval, embed and verify know the checkpoint.
func (s *Store) Path(name string) string { return s.place.of(name) }

// Spool returns the folder on this machine where checkpoints wait for their upload.
func (s *Store) Spool() string { return s.spool.dir }

// Put implements checkpoints.Store: it writes the checkpoint to the spool, then uploads it, the manifest last.
func (s *Store) Put(ctx context.Context, name string, files []checkpoints.File) error {
	if !checkpoints.PlainName(name) {
		return fmt.Errorf("name %q is not allowed", name)
	}
	s.spool.evict(ctx, name)
	if err := s.spool.mark(name); err != nil {
		return fmt.Errorf("spool %s: %w", s.spool.dir, err)
	}
	if err := s.spool.Put(ctx, name, files); err != nil {
		_ = os.Remove(filepath.Join(s.spool.dir, pending+name)) // what the name held before is in the bucket, or given up
		return fmt.Errorf("spool %s: %w", s.spool.dir, err)
	}
	s.spool.evict(ctx, name)
	if err := s.Upload(ctx, name); err != nil {
		return fmt.Errorf("it stays in %s: %w", s.spool.Path(name), err)
	}
	return nil
}

// Waiting returns the checkpoints of this machine's spool that are not in the bucket yet, oldest first.
func (s *Store) Waiting() []string { return s.spool.waiting() }

// Upload puts a checkpoint of the spool into the bucket. What is there of it already is not sent again, whoever sent it.
func (s *Store) Upload(ctx context.Context, name string) error {
	m, err := s.spool.Inspect(ctx, name, false)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	fresh, err := s.clear(ctx, name, m)
	if errors.Is(err, errSame) {
		s.spool.uploaded(name)
		return nil
	}
	if err != nil {
		return err
	}
	for _, file := range slices.Sorted(maps.Keys(m.Files)) {
		if err := s.upload(ctx, s.place.key(name, file), filepath.Join(s.spool.Path(name), file), m.Files[file], fresh); err != nil {
			return err
		}
	}
	if err := s.seal(ctx, name); err != nil {
		return err
	}
	s.spool.uploaded(name)
	s.tidy(ctx, name, m)
	return nil
}

// errSame says that a checkpoint is in the bucket as it should be.
var errSame = errors.New("the same checkpoint is there")

// clear makes way for a checkpoint: if there is another of its name its manifest goes first, so that nobody takes a mixture
// for either. fresh says that objects of the name are not to be trusted.
func (s *Store) clear(ctx context.Context, name string, m *checkpoints.Manifest) (fresh bool, err error) {
	old, err := s.Inspect(ctx, name, true)
	switch {
	case err == nil && old.Digest() == m.Digest():
		return false, errSame
	case old == nil && errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, checkpoints.ErrUnreachable):
		return false, err
	case old != nil && old.Identity != m.Identity:
		return false, fmt.Errorf("%s is a checkpoint of another run (%s, identity %.12s; this is %s, %.12s): give each run a prefix of its own",
			s.Path(name), old.Run, old.Identity, m.Run, m.Identity)
	}
	return true, s.delete(ctx, s.place.key(name, checkpoints.ManifestName))
}

// seal uploads the manifest: from then on the checkpoint is there.
func (s *Store) seal(ctx context.Context, name string) error {
	path := filepath.Join(s.spool.Path(name), checkpoints.ManifestName)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	return s.upload(ctx, s.place.key(name, checkpoints.ManifestName), path, checkpoints.Checksum{Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}, true)
}

// staleAfter is how long the objects of a checkpoint that was never finished must not have changed before another's
// writer removes them.
const staleAfter = time.Hour

// tidy removes objects that the manifest does not name, and what is left of older checkpoints that nobody finished. That
// it fails is no reason to call the checkpoint unwritten.
func (s *Store) tidy(ctx context.Context, name string, m *checkpoints.Manifest) {
	all, err := s.list(ctx, "")
	if err != nil {
		return
	}
	finished := map[string]bool{}
	changed := map[string]time.Time{}
	for _, t := range all {
		dir, file, _ := strings.Cut(t.name, "/")
		finished[dir] = finished[dir] || file == checkpoints.ManifestName
		if t.changed.After(changed[dir]) {
			changed[dir] = t.changed
		}
	}
	for _, t := range all {
		dir, file, _ := strings.Cut(t.name, "/")
		_, step := checkpoints.ParseName(dir)
		_, listed := m.Files[file]
		if dir == name && !listed && file != checkpoints.ManifestName || step && !finished[dir] && dir < name && time.Since(changed[dir]) > staleAfter {
			_ = s.delete(ctx, s.place.key(t.name))
		}
	}
}

// List implements checkpoints.Store: what has no manifest is not there yet.
func (s *Store) List(ctx context.Context) ([]string, error) {
	all, err := s.list(ctx, "")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, t := range all {
		if dir, ok := strings.CutSuffix(t.name, "/"+checkpoints.ManifestName); ok && !strings.Contains(dir, "/") {
			out = append(out, dir)
		}
	}
	return out, nil
}

// Inspect implements checkpoints.Store. It reads the bucket, never the spool.
func (s *Store) Inspect(ctx context.Context, name string, deep bool) (*checkpoints.Manifest, error) {
	if !checkpoints.PlainName(name) {
		return nil, fmt.Errorf("name %q is not allowed", name)
	}
	m, _, err := s.manifest(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the checkpoint was not finished, or this is none: %w", err)
	}
	if err != nil {
		return nil, err
	}
	all, err := s.list(ctx, name)
	if err != nil {
		return m, err
	}
	sizes := map[string]int64{}
	for _, t := range all {
		sizes[strings.TrimPrefix(t.name, name+"/")] = t.size
	}
	for _, file := range slices.Sorted(maps.Keys(m.Files)) {
		switch size, there := sizes[file]; {
		case !there:
			return m, fmt.Errorf("%s is missing: damaged", s.place.of(name, file))
		case size != m.Files[file].Size:
			return m, fmt.Errorf("%s has %d bytes, the manifest says %d: damaged", s.place.of(name, file), size, m.Files[file].Size)
		}
	}
	if !deep {
		return m, nil
	}
	for _, file := range slices.Sorted(maps.Keys(m.Files)) {
		if err := s.compare(ctx, s.place.key(name, file), io.Discard, m.Files[file]); err != nil {
			return m, err
		}
	}
	return m, nil
}

// Fetch implements checkpoints.Store. A copy on this machine is used if its manifest is the bucket's and its bytes are right.
func (s *Store) Fetch(ctx context.Context, name string) (string, error) {
	if !checkpoints.PlainName(name) {
		return "", fmt.Errorf("name %q is not allowed", name)
	}
	m, text, err := s.manifest(ctx, name)
	if err != nil {
		return "", err
	}
	if here, err := s.spool.Inspect(ctx, name, true); err == nil && here.Digest() == m.Digest() {
		s.spool.touch(name)
		return s.spool.Path(name), nil
	}
	var files []checkpoints.File
	for _, file := range slices.Sorted(maps.Keys(m.Files)) {
		files = append(files, checkpoints.File{Name: file, Write: func(w io.Writer) error {
			return s.compare(ctx, s.place.key(name, file), w, m.Files[file])
		}})
	}
	files = append(files, checkpoints.File{Name: checkpoints.ManifestName, Write: func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}})
	if err := s.spool.Put(ctx, name, files); err != nil {
		return "", fmt.Errorf("fetch %s into %s: %w", s.Path(name), s.spool.dir, err)
	}
	s.spool.evict(ctx, name)
	return s.spool.Path(name), nil
}

// Remove implements checkpoints.Store: the manifest goes first, so that no half checkpoint is seen.
func (s *Store) Remove(ctx context.Context, name string) error {
	if !checkpoints.PlainName(name) {
		return fmt.Errorf("name %q is not allowed", name)
	}
	all, err := s.list(ctx, name)
	if err != nil {
		return err
	}
	if err := s.delete(ctx, s.place.key(name, checkpoints.ManifestName)); err != nil {
		return err
	}
	for _, t := range all {
		if err := s.delete(ctx, s.place.key(t.name)); err != nil {
			return err
		}
	}
	s.abandon(ctx, s.place.key(name)+"/")
	s.spool.remove(ctx, name)
	return nil
}

func (s *Store) delete(ctx context.Context, key string) error {
	err := s.try(ctx, "remove", key, func(ctx context.Context, _ func()) error {
		return s.core.RemoveObject(ctx, s.place.Bucket, key, minio.RemoveObjectOptions{})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
