package encode

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// Digest identifies everything besides the text that decides an embedding: the content of the model's folder and of its
// base's, and how a text becomes one vector. Equal digests embed equal tokens alike, on one kind of processor.
func (e *Encoder) Digest() (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %q %q %d %t %t %t %q\n", e.Kind, e.Attention, e.Pooling, e.Width(), e.PoolPrompt, e.Normalize, e.LowerCase, e.tok.Digest())
	for _, dir := range []string{e.Dir, e.over} {
		if dir == "" {
			continue
		}
		if err := hashFolder(h, dir); err != nil {
			return "", fmt.Errorf("digest of model %s: %w", dir, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hashFolder hashes the model's own files, by name: not what may lie beside them, such as results.
func hashFolder(w io.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return nil
		case name == checkpoints.OptimizerName, !strings.HasSuffix(name, ".safetensors") && !strings.HasSuffix(name, ".json"):
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\n", strings.TrimPrefix(path, dir))
		_, err = io.Copy(w, f)
		return errors.Join(err, f.Close())
	})
}
