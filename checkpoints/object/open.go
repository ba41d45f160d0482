package object

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// fileScheme begins the URLs of folders.
const fileScheme = "file://"

// Folder returns the folder that where means, "" if that is a store of this package: a folder is written as it is, or
// as file:///FOLDER.
func Folder(where string) (string, error) {
	switch {
	case IsURL(where):
		return "", nil
	case strings.HasPrefix(where, fileScheme):
		u, err := url.Parse(where)
		if err != nil || u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(filepath.FromSlash(u.Path)) || u.RawQuery != "" {
			return "", fmt.Errorf("%q: file:///FOLDER is allowed, with a folder that begins at the root", where)
		}
		return filepath.FromSlash(u.Path), nil
	case strings.Contains(where, "://"):
		scheme, _, _ := strings.Cut(where, "://")
		return "", fmt.Errorf("scheme %q; s3://BUCKET/PREFIX, file:///FOLDER and a folder are allowed", scheme)
	}
	return where, nil
}

// Valid reports what is wrong with the words of a store; nothing is asked of it.
func Valid(where string) error {
	if folder, err := Folder(where); err != nil || folder != "" {
		return err
	}
	if where == "" {
		return errors.New("is empty")
	}
	_, err := parse(where)
	return err
}

// New returns the store that where means: of a folder of this machine, or Open's.
func New(where string, o Options) (checkpoints.Store, error) {
	folder, err := Folder(where)
	if err != nil {
		return nil, fmt.Errorf("checkpoint store %w", err)
	}
	if folder != "" {
		return checkpoints.NewLocal(folder), nil
	}
	return Open(where, o)
}
