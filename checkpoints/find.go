package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// SeriesFolder returns the folder of checkpoints that path is or has (path/checkpoints, as a run's folder), "" if path
// is a checkpoint or a model's folder itself, or has no checkpoints. That path is a folder is all that it must be.
func SeriesFolder(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is a file; a folder is needed", path)
	}
	for _, name := range []string{ManifestName, ModelConfigName, AdapterConfigName} {
		if _, err := os.Stat(filepath.Join(path, name)); err == nil {
			return "", nil
		}
	}
	for _, dir := range []string{path, filepath.Join(path, "checkpoints")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		for _, e := range entries {
			if _, ok := ParseName(e.Name()); ok {
				return dir, nil
			}
		}
	}
	return "", nil
}

// Find returns the folder that path means: of a folder of checkpoints, or of a run, the newest sound checkpoint, with a
// warning for each damaged one before it; else path itself, which is not looked at. log may be nil.
func Find(ctx context.Context, path string, log *slog.Logger) (string, error) {
	dir, err := SeriesFolder(path)
	if err != nil || dir == "" {
		return path, err
	}
	entry, damaged, err := (&Series{Store: NewLocal(dir)}).Newest(ctx)
	if log != nil {
		for _, d := range damaged {
			log.Warn("a damaged checkpoint is left out", "error", d)
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", dir, errors.Join(append([]error{err}, damaged...)...))
	}
	return entry.Dir, nil
}
