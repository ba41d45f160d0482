package coordinator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// maxFilePart bounds the answer to a FileRequest.
const maxFilePart = wire.MaxMessage / 2

// files serves the run's model folder, its adapters, its checkpoints and its suites to workers that have neither disk in common
// with the coordinator nor the data.
type files struct {
	model, store string
	adapters     []string
	suites       Suites

	mu    sync.Mutex
	suite map[int][]byte

	hashing sync.Mutex // one file is hashed at a time
	hashed  map[hashKey]string
}

// hashKey is a file as it was when it was hashed.
type hashKey struct {
	folder, name string
	size         int64
	changed      time.Time
}

func newFiles(run Submission, suites Suites) *files {
	return &files{model: run.Model, store: run.Folder, adapters: run.Adapters, suites: suites, suite: map[int][]byte{}, hashed: map[hashKey]string{}}
}

// get answers a FileRequest.
func (f *files) get(q *wire.FileRequest) *wire.FileReply {
	payload, size, err := f.read(q)
	if err != nil {
		return &wire.FileReply{Err: fmt.Sprintf("read %q: %v", q.Name, err)}
	}
	return &wire.FileReply{Size: size, Payload: payload}
}

func (f *files) read(q *wire.FileRequest) (part []byte, size int64, err error) {
	if q.Offset < 0 || q.Limit < 0 {
		return nil, 0, fmt.Errorf("offset %d, limit %d", q.Offset, q.Limit)
	}
	limit := q.Limit
	if limit == 0 || limit > maxFilePart {
		limit = maxFilePart
	}
	top, rest, _ := strings.Cut(q.Name, "/")
	switch top {
	case "suite":
		whole, err := f.describe(rest)
		return slice(whole, q.Offset, limit), int64(len(whole)), err
	case "model":
		return f.file(f.model, rest, q.Offset, limit, true) // hub folders are links into a cache
	case "adapters":
		index, name, _ := strings.Cut(rest, "/")
		i, err := strconv.Atoi(index)
		if err != nil || i < 0 || i >= len(f.adapters) {
			return nil, 0, fmt.Errorf("the run has %d adapters", len(f.adapters))
		}
		return f.file(f.adapters[i], name, q.Offset, limit, true)
	case "checkpoints":
		return f.file(f.store, rest, q.Offset, limit, false)
	}
	return nil, 0, errors.New("model/NAME, adapters/INDEX/NAME, checkpoints/FOLDER/NAME and suite/INDEX are served")
}

func slice(whole []byte, offset int64, limit int) []byte {
	lo := min(offset, int64(len(whole)))
	return whole[lo:min(lo+int64(limit), int64(len(whole)))]
}

// describe returns a suite's JSON, read once.
func (f *files) describe(index string) ([]byte, error) {
	i, err := strconv.Atoi(index)
	if err != nil || f.suites == nil || i < 0 || i >= len(f.suites.Names()) {
		return nil, errors.New("there is no such suite")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.suite[i] == nil {
		b, err := f.suites.Describe(i)
		if err != nil {
			return nil, err
		}
		f.suite[i] = b
	}
	return f.suite[i], nil
}

// file reads a part of a file in a folder. A name that is empty or ends in a slash lists the files there.
func (f *files) file(folder, name string, offset int64, limit int, follow bool) ([]byte, int64, error) {
	if folder == "" {
		return nil, 0, errors.New("the run has no such folder")
	}
	tree := os.DirFS(folder)
	if !follow {
		root, err := os.OpenRoot(folder)
		if err != nil {
			return nil, 0, err
		}
		defer root.Close()
		tree = root.FS()
	}
	if name == "" || strings.HasSuffix(name, "/") {
		whole, err := f.list(folder, tree, path.Clean(name))
		return slice(whole, offset, limit), int64(len(whole)), err
	}
	file, err := tree.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	at, ok := file.(io.ReaderAt)
	if !info.Mode().IsRegular() || !ok {
		return nil, 0, errors.New("not a file")
	}
	part := make([]byte, min(int64(limit), max(0, info.Size()-offset)))
	n, err := at.ReadAt(part, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	return part[:n], info.Size(), nil
}

// list returns the regular files of a folder as JSON, with their SHA-256: a worker's cache tells models apart by it.
func (f *files) list(folder string, tree fs.FS, dir string) ([]byte, error) {
	entries, err := fs.ReadDir(tree, dir)
	if err != nil {
		return nil, err
	}
	type listed struct {
		Name   string `json:"name"`
		Size   int64  `json:"size"`
		Digest string `json:"digest"`
	}
	out := []listed{}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		info, err := fs.Stat(tree, name)
		if err != nil {
			continue // a dangling link, or one that leads out of the store
		}
		if info.Mode().IsRegular() {
			digest, err := f.digest(tree, hashKey{folder, name, info.Size(), info.ModTime()})
			if err != nil {
				return nil, err
			}
			out = append(out, listed{e.Name(), info.Size(), digest})
		}
	}
	return json.Marshal(out)
}

// digest returns a file's SHA-256 in hex, computed once for as long as the file does not change.
func (f *files) digest(tree fs.FS, key hashKey) (string, error) {
	f.hashing.Lock()
	defer f.hashing.Unlock()
	if d, ok := f.hashed[key]; ok {
		return d, nil
	}
	file, err := tree.Open(key.name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	d := hex.EncodeToString(h.Sum(nil))
	f.hashed[key] = d
	return d, nil
}
