package object

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

const (
	sumHeader       = "x-amz-checksum-sha256"
	algorithmHeader = "x-amz-checksum-algorithm"
	sumMetadata     = "Counterpoint-Sha256" // of the whole object, in hex
	maxParts        = 10_000                // S3's own
)

// part is a piece of a file: what a server must say of it.
type part struct {
	offset, size int64
	md5          [md5.Size]byte
	sha          [sha256.Size]byte
}

func (p part) etag() string { return hex.EncodeToString(p.md5[:]) }

// upload puts a file of the spool into the bucket, unless it is there and fresh is false. What an upload that was cut off,
// here or by another worker, has left in the bucket is used if its sums are right.
func (s *Store) upload(ctx context.Context, key, path string, want checkpoints.Checksum, fresh bool) error {
	if !fresh && s.has(ctx, key, want) {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	defer file.Close()
	parts, err := s.cut(ctx, file, want)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errLocal, path, err)
	}
	if len(parts) == 1 {
		return s.putWhole(ctx, key, file, parts[0])
	}
	for try := range 3 {
		err = s.putParts(ctx, key, file, parts, want, try < 2)
		var known *Error
		if err == nil || !errors.As(err, &known) || known.Code != minio.NoSuchUpload && known.Code != "InvalidPart" && known.Code != "InvalidRequest" {
			return err
		}
		if known.Code == minio.NoSuchUpload && s.has(ctx, key, want) {
			return nil // another worker completed it, or the answer to our completion was lost
		}
	}
	return err
}

// cut reads a file once, compares it with its sum and cuts it into parts.
func (s *Store) cut(ctx context.Context, file io.ReaderAt, want checkpoints.Checksum) ([]part, error) {
	size := max(s.o.PartSize, (want.Size+maxParts-1)/maxParts)
	whole := sha256.New()
	var parts []part
	for offset := int64(0); offset == 0 || offset < want.Size; offset += size {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := part{offset: offset, size: min(size, want.Size-offset)}
		m, h := md5.New(), sha256.New()
		n, err := io.Copy(io.MultiWriter(m, h, whole), io.NewSectionReader(file, offset, p.size))
		if err != nil || n != p.size {
			return nil, errors.Join(err, fmt.Errorf("%d bytes, the manifest says %d", offset+n, want.Size))
		}
		m.Sum(p.md5[:0])
		h.Sum(p.sha[:0])
		parts = append(parts, p)
	}
	if got := hex.EncodeToString(whole.Sum(nil)); got != want.SHA256 {
		return nil, fmt.Errorf("SHA-256 %.16s, the manifest says %.16s: damaged on this machine", got, want.SHA256)
	}
	return parts, nil
}

// has reports whether the object is in the bucket, as its writer described it.
func (s *Store) has(ctx context.Context, key string, want checkpoints.Checksum) bool {
	var info minio.ObjectInfo
	err := s.try(ctx, "look at", key, func(ctx context.Context, _ func()) (err error) {
		info, err = s.core.StatObject(ctx, s.place.Bucket, key, minio.StatObjectOptions{})
		return err
	})
	if err != nil || info.Size != want.Size {
		return false
	}
	for name, value := range info.UserMetadata {
		if strings.EqualFold(name, sumMetadata) {
			return value == want.SHA256
		}
	}
	return false
}

func (s *Store) options(key, sum string) minio.PutObjectOptions {
	o := minio.PutObjectOptions{ContentType: "application/octet-stream", UserMetadata: map[string]string{sumMetadata: sum}}
	if strings.HasSuffix(key, ".json") {
		o.ContentType = "application/json"
	}
	return o
}

// putWhole uploads a small file in one request.
func (s *Store) putWhole(ctx context.Context, key string, file io.ReaderAt, p part) error {
	sum := hex.EncodeToString(p.sha[:])
	o := s.options(key, sum)
	if s.place.Checksums {
		o.UserMetadata[sumHeader] = base64.StdEncoding.EncodeToString(p.sha[:])
	}
	return s.try(ctx, "upload", key, func(ctx context.Context, touch func()) error {
		body := moving{io.NewSectionReader(file, 0, p.size), touch}
		_, err := s.core.PutObject(ctx, s.place.Bucket, key, body, p.size, base64.StdEncoding.EncodeToString(p.md5[:]), sum, o)
		return err
	})
}

// putParts uploads a file in parts, several at once, each read from the disk as it is sent.
func (s *Store) putParts(ctx context.Context, key string, file io.ReaderAt, parts []part, want checkpoints.Checksum, reuse bool) error {
	var id string
	var have map[int]minio.ObjectPart
	if reuse {
		id, have = s.unfinished(ctx, key, parts)
	}
	if id == "" {
		o := s.options(key, want.SHA256)
		if s.place.Checksums {
			o.UserMetadata[algorithmHeader] = "SHA256"
		}
		err := s.try(ctx, "begin the upload of", key, func(ctx context.Context, _ func()) (err error) {
			id, err = s.core.NewMultipartUpload(ctx, s.place.Bucket, key, o)
			return err
		})
		if err != nil {
			return err
		}
	}
	if len(have) > 0 {
		s.o.Log.Info("an upload that was cut off goes on", "key", key, "parts", len(have), "of", len(parts))
	}
	done := make([]minio.CompletePart, len(parts))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(s.o.Parallel)
	for i, p := range parts {
		sum := ""
		if s.place.Checksums {
			sum = base64.StdEncoding.EncodeToString(p.sha[:])
		}
		done[i] = minio.CompletePart{PartNumber: i + 1, ChecksumSHA256: sum}
		if old, ok := have[i+1]; ok {
			done[i].ETag = old.ETag
			done[i].ChecksumSHA256 = old.ChecksumSHA256
			continue
		}
		group.Go(func() (err error) {
			done[i].ETag, err = s.putPart(gctx, key, id, i+1, file, p, sum)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	err := s.try(ctx, "complete the upload of", key, func(ctx context.Context, _ func()) error {
		_, err := s.core.CompleteMultipartUpload(ctx, s.place.Bucket, key, id, done, minio.PutObjectOptions{})
		return err
	})
	if err == nil {
		s.abandon(ctx, key)
	}
	return err
}

func (s *Store) putPart(ctx context.Context, key, id string, number int, file io.ReaderAt, p part, sum string) (etag string, err error) {
	err = s.try(ctx, fmt.Sprintf("upload part %d of", number), key, func(ctx context.Context, touch func()) error {
		o := minio.PutObjectPartOptions{Md5Base64: base64.StdEncoding.EncodeToString(p.md5[:]), Sha256Hex: hex.EncodeToString(p.sha[:]), CustomHeader: http.Header{}}
		if sum != "" {
			o.CustomHeader.Set(sumHeader, sum)
		}
		body := moving{io.NewSectionReader(file, p.offset, p.size), touch}
		got, err := s.core.PutObjectPart(ctx, s.place.Bucket, key, id, number, body, p.size, o)
		etag = got.ETag
		return err
	})
	if err == nil {
		s.sent.Add(p.size)
	}
	return etag, err
}

// unfinished returns the upload of key that has most of the parts in it, and those. A part counts by its sum: the MD5 that
// its tag is on most servers, or the SHA-256 that it was sent with.
func (s *Store) unfinished(ctx context.Context, key string, parts []part) (id string, have map[int]minio.ObjectPart) {
	for _, upload := range s.uploads(ctx, key) {
		if upload.Key != key {
			continue
		}
		found, err := s.partsOf(ctx, key, upload.UploadID)
		if err != nil {
			continue
		}
		right := map[int]minio.ObjectPart{}
		for _, p := range found {
			if p.PartNumber < 1 || p.PartNumber > len(parts) || p.Size != parts[p.PartNumber-1].size {
				continue
			}
			want := parts[p.PartNumber-1]
			same := strings.EqualFold(strings.Trim(p.ETag, `"`), want.etag())
			if p.ChecksumSHA256 != "" {
				same = p.ChecksumSHA256 == base64.StdEncoding.EncodeToString(want.sha[:])
			}
			if same && (p.ChecksumSHA256 != "" || !s.place.Checksums) {
				right[p.PartNumber] = p
			}
		}
		if len(right) > len(have) {
			id, have = upload.UploadID, right
		}
	}
	return id, have
}

func (s *Store) partsOf(ctx context.Context, key, id string) (out []minio.ObjectPart, err error) {
	for marker := 0; ; {
		var page minio.ListObjectPartsResult
		err := s.try(ctx, "list the parts of", key, func(ctx context.Context, _ func()) (err error) {
			page, err = s.core.ListObjectParts(ctx, s.place.Bucket, key, id, marker, 1000)
			return err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, page.ObjectParts...)
		if !page.IsTruncated || page.NextPartNumberMarker <= marker {
			return out, nil
		}
		marker = page.NextPartNumberMarker
	}
}

// uploads lists the uploads below a prefix that were begun and not completed; none if the server does not tell.
func (s *Store) uploads(ctx context.Context, prefix string) (out []minio.ObjectMultipartInfo) {
	for key, id := "", ""; ; {
		var page minio.ListMultipartUploadsResult
		err := s.try(ctx, "list the uploads of", prefix, func(ctx context.Context, _ func()) (err error) {
			page, err = s.core.ListMultipartUploads(ctx, s.place.Bucket, prefix, key, id, "", 1000)
			return err
		})
		if err != nil {
			return out
		}
		out = append(out, page.Uploads...)
		if !page.IsTruncated || page.NextKeyMarker == key && page.NextUploadIDMarker == id {
			return out
		}
		key, id = page.NextKeyMarker, page.NextUploadIDMarker
	}
}

// abandon aborts what is begun of objects that are complete or dropped: its parts are paid for and of no use. A worker that
// is still at it finds the object complete.
func (s *Store) abandon(ctx context.Context, prefix string) {
	for _, u := range s.uploads(ctx, prefix) {
		_ = s.try(ctx, "abort an upload of", u.Key, func(ctx context.Context, _ func()) error {
			return s.core.AbortMultipartUpload(ctx, s.place.Bucket, u.Key, u.UploadID)
		})
	}
}
