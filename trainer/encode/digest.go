package encode

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// Digest identifies everything besides the text that decides an embedding: the content of the model's folder and of its
// base's, and how a text becomes one vector. Equal digests embed equal tokens alike, on one kind of processor.
func (e *Encoder) Digest() (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %q %q %d %d %t %t %t %t %q\n", e.Kind, e.Attention, e.Pooling, e.model.Width(), e.dimensions, e.options.Unmerged, e.PoolPrompt, e.Normalize,
		e.LowerCase, e.tok.Digest())
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

// hashFolder hashes a model's own files with their names: weights and settings in the folder itself and in those below that
// have a model's files, such as a sentence-transformers module. Results that lie beside them, in folders of their own, are
// none of it. Links are followed: a folder of the Hub's cache has nothing else, and a name such as latest is often one.
func hashFolder(w io.Writer, dir string) error {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	return hashLevel(w, root, ".", 0)
}

// deepest is how far below a model's folder its files are sought, which also ends links in a circle.
const deepest = 4

func hashLevel(w io.Writer, root, at string, depth int) error {
	entries, err := os.ReadDir(filepath.Join(root, at)) // by name
	if err != nil {
		return err
	}
	own := depth == 0
	for _, e := range entries {
		own = own || e.Name() == checkpoints.ModelConfigName || e.Name() == checkpoints.AdapterConfigName || strings.HasSuffix(e.Name(), weightsEnding)
	}
	for _, e := range entries {
		name := filepath.Join(at, e.Name())
		path := filepath.Join(root, name)
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // a link to nowhere: whatever needs it has failed already
		}
		if err != nil {
			return err
		}
		switch {
		case info.IsDir():
			if depth < deepest {
				if err := hashLevel(w, root, name, depth+1); err != nil {
					return err
				}
			}
		case own && e.Name() != checkpoints.OptimizerName && (strings.HasSuffix(name, weightsEnding) || strings.HasSuffix(name, ".json")):
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%q %d\n", filepath.ToSlash(name), info.Size())
			_, err = io.Copy(w, f)
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

const weightsEnding = ".safetensors"
