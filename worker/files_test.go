package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// shop is a Link that serves files and nothing else; the first answer to every request is lost.
type shop struct {
	Link
	files map[string][]byte
	asked map[wire.FileRequest]int
}

func (s *shop) File(_ context.Context, m *wire.FileRequest) (*wire.FileReply, error) {
	if s.asked[*m]++; s.asked[*m] == 1 {
		return nil, errLost
	}
	whole, ok := s.files[m.Name]
	if !ok {
		return &wire.FileReply{Err: "no such file"}, nil
	}
	lo := min(m.Offset, int64(len(whole)))
	return &wire.FileReply{Size: int64(len(whole)), Payload: whole[lo:min(lo+int64(m.Limit), int64(len(whole)))]}, nil
}

func newShop(names map[string][]byte) *shop {
	s := &shop{files: map[string][]byte{}, asked: map[wire.FileRequest]int{}}
	var list []listed
	for name, b := range names {
		sum := sha256.Sum256(b)
		list = append(list, listed{name, int64(len(b)), hex.EncodeToString(sum[:])})
		s.files["model/"+name] = b
	}
	s.files["model/"], _ = json.Marshal(list)
	return s
}

func TestFolderIsFetchedOnce(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	s := newShop(map[string][]byte{"config.json": []byte("{}"), "model.safetensors": big, "empty": nil})
	f := &Files{link: s, run: "r", cache: t.TempDir(), timeout: 10 * time.Millisecond}
	dir, err := f.Folder(t.Context(), "model/")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("fetched %d bytes, %v, want %d", len(got), err, len(big))
	}
	before := len(s.asked)
	if again, err := f.Folder(t.Context(), "model/"); err != nil || again != dir || len(s.asked) != before {
		t.Errorf("Folder again = %q, %v after %d new requests, want %q after none", again, err, len(s.asked)-before, dir)
	}
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), bytes.Repeat([]byte("x"), len(big)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Folder(t.Context(), "model/"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "model.safetensors")); err != nil || !bytes.Equal(got, big) {
		t.Error("a damaged file in the cache was kept")
	}
}

func TestBadFolders(t *testing.T) {
	for name, c := range map[string]struct{ list, want string }{
		"outside":    {`[{"name":"../x","size":1}]`, "not a name inside"},
		"not JSON":   {`[{]`, "read the list"},
		"missing":    {`[{"name":"x","size":1}]`, "no such file"},
		"other size": {`[{"name":"y","size":9}]`, "2 bytes, want 9"},
		"damaged":    {`[{"name":"y","size":2,"digest":"00"}]`, "want 00"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shop{files: map[string][]byte{"model/": []byte(c.list), "model/y": []byte("yy")}, asked: map[wire.FileRequest]int{}}
			f := &Files{link: s, run: "r", cache: t.TempDir(), timeout: time.Millisecond}
			if _, err := f.Folder(t.Context(), "model/"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Folder = %v, want an error with %q", err, c.want)
			}
			left, _ := filepath.Glob(filepath.Join(f.cache, "*", ".fetch-*"))
			if len(left) > 0 {
				t.Errorf("temporary files left: %v", left)
			}
		})
	}
}
