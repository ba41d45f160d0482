package object

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// maxManifest bounds what is read of a manifest.
const maxManifest = 16 << 20

// localWriter marks the errors of writing what was downloaded.
type localWriter struct{ io.Writer }

func (l localWriter) Write(p []byte) (int, error) {
	n, err := l.Writer.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", errLocal, err)
	}
	return n, err
}

// download writes an object to w and returns its size and sum. A connection that breaks goes on where it was.
func (s *Store) download(ctx context.Context, key string, w io.Writer, limit int64) (checkpoints.Checksum, error) {
	h := sha256.New()
	out := io.MultiWriter(localWriter{w}, h)
	var at int64
	var tag string
	for {
		before := at
		err := s.try(ctx, "download", key, func(ctx context.Context, touch func()) error {
			var o minio.GetObjectOptions
			if at > 0 {
				if err := o.SetRange(at, 0); err != nil {
					return err
				}
				if err := o.SetMatchETag(tag); err != nil {
					return err
				}
			}
			body, info, _, err := s.core.GetObject(ctx, s.place.Bucket, key, o)
			if err != nil {
				return err
			}
			defer body.Close()
			if at == 0 {
				tag = info.ETag
			}
			n, err := io.Copy(out, io.LimitReader(moving{body, touch}, limit+1-at))
			at += n
			if err == nil && at > limit {
				return fmt.Errorf("%w: more than the %d bytes expected", errTooLarge, limit)
			}
			return err
		})
		var known *Error
		switch {
		case err == nil:
			return checkpoints.Checksum{Size: at, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
		case ctx.Err() != nil:
			return checkpoints.Checksum{}, context.Cause(ctx)
		case errors.Is(err, errTooLarge):
			return checkpoints.Checksum{Size: at}, nil // the caller's comparison has the words
		}
		if at == before || !errors.As(err, &known) || !transient(known.Err) {
			return checkpoints.Checksum{}, err
		}
	}
}

var errTooLarge = fmt.Errorf("%w: too large", errLocal) // not tried again

// compare downloads an object to w and compares it with its sum.
func (s *Store) compare(ctx context.Context, key string, w io.Writer, want checkpoints.Checksum) error {
	got, err := s.download(ctx, key, w, want.Size)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("s3://%s/%s at %s: %d bytes with SHA-256 %.16s, the manifest says %d with %.16s: damaged",
			s.place.Bucket, key, s.place.Endpoint, got.Size, got.SHA256, want.Size, want.SHA256)
	}
	return nil
}

// manifest reads a checkpoint's manifest.
func (s *Store) manifest(ctx context.Context, name string) (*checkpoints.Manifest, []byte, error) {
	key := s.place.key(name, checkpoints.ManifestName)
	var text bytes.Buffer
	if _, err := s.download(ctx, key, &text, maxManifest); err != nil {
		return nil, nil, err
	}
	m, err := checkpoints.ParseManifest(text.Bytes())
	if err != nil {
		return nil, nil, fmt.Errorf("s3://%s/%s at %s: %w", s.place.Bucket, key, s.place.Endpoint, err)
	}
	return m, text.Bytes(), nil
}

// thing is an object of a listing, named below the place.
type thing struct {
	name    string // such as step-00000100/state.json
	size    int64
	changed time.Time
}

// list returns the objects below a name of the place.
func (s *Store) list(ctx context.Context, name string) ([]thing, error) {
	prefix := s.place.key(name)
	if prefix != "" {
		prefix += "/"
	}
	base := s.place.key()
	if base != "" {
		base += "/"
	}
	var out []thing
	err := s.try(ctx, "list", prefix, func(ctx context.Context, touch func()) error {
		out = nil
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		for o := range s.core.Client.ListObjects(ctx, s.place.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			if o.Err != nil {
				return o.Err
			}
			if touch(); strings.HasPrefix(o.Key, base) {
				out = append(out, thing{strings.TrimPrefix(o.Key, base), o.Size, o.LastModified})
			}
		}
		return ctx.Err()
	})
	return out, err
}
