package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// filePart is how much of a file one request asks for, in bytes.
const filePart = 1 << 20

// Files fetches files that only the coordinator has: the run's model folder, checkpoints, suites.
type Files struct {
	link    Link
	run     string
	cache   string
	timeout time.Duration
}

// listed is a file of a folder's listing.
type listed struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"` // SHA-256 in hex, where the coordinator tells it
}

// Read returns a whole file, for instance "suite/0".
func (f *Files) Read(ctx context.Context, name string) ([]byte, error) {
	var b bytes.Buffer
	if err := f.get(ctx, name, &b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Folder makes sure that all files of a folder, for instance "model/", but those named in without, are in the cache, and
// returns where. Files that are there with the right size and digest are not fetched again.
func (f *Files) Folder(ctx context.Context, name string, without ...string) (string, error) {
	raw, err := f.Read(ctx, name)
	if err != nil {
		return "", err
	}
	var files []listed
	if err := json.Unmarshal(raw, &files); err != nil {
		return "", fmt.Errorf("read the list of %s: %w", name, err)
	}
	// The listing names the content as far as it is known, so another model never finds this one's files.
	sum := sha256.Sum256(append([]byte(name+"\n"), raw...))
	dir := filepath.Join(f.cache, hex.EncodeToString(sum[:12]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, x := range files {
		if slices.Contains(without, x.Name) {
			continue
		}
		if x.Name == "" || !filepath.IsLocal(x.Name) {
			return "", fmt.Errorf("list of %s: %q is not a name inside the folder", name, x.Name)
		}
		if err := f.keep(ctx, name+x.Name, filepath.Join(dir, x.Name), x); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// keep fetches a file into the cache unless it is there, under a temporary name until it is whole.
func (f *Files) keep(ctx context.Context, name, path string, want listed) error {
	if checkFile(path, want) == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".fetch-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	err = f.get(ctx, name, tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = checkFile(tmp.Name(), want)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("fetch %s: %w", name, err)
	}
	return nil
}

// checkFile compares a file with its listing.
func checkFile(path string, want listed) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	h := sha256.New()
	n, err := io.Copy(h, in)
	if err != nil {
		return err
	}
	if n != want.Size {
		return fmt.Errorf("%d bytes, want %d", n, want.Size)
	}
	if got := hex.EncodeToString(h.Sum(nil)); want.Digest != "" && !strings.EqualFold(got, want.Digest) {
		return fmt.Errorf("digest %s, want %s", got, want.Digest)
	}
	return nil
}

// get writes a file to w, part by part. A part that does not come is asked for again; what the coordinator refuses
// three times is an error.
func (f *Files) get(ctx context.Context, name string, w io.Writer) error {
	refused := 0
	pause := 5 * time.Millisecond
	for at := int64(0); ; {
		fctx, cancel := context.WithTimeout(ctx, 4*f.timeout)
		reply, err := f.link.File(fctx, &wire.FileRequest{Run: f.run, Name: name, Offset: at, Limit: filePart})
		cancel()
		if err == nil && reply.Err != "" {
			if refused++; refused >= 3 {
				return fmt.Errorf("fetch %s: coordinator: %s", name, reply.Err)
			}
			err = errors.New(reply.Err)
		}
		if err != nil {
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			pause = min(2*pause, f.timeout)
			continue
		}
		if _, err := w.Write(reply.Payload); err != nil {
			return err
		}
		at += int64(len(reply.Payload))
		if at >= reply.Size {
			return nil
		}
		if len(reply.Payload) == 0 {
			return fmt.Errorf("fetch %s: the coordinator's file ends at %d of %d bytes", name, at, reply.Size)
		}
	}
}
