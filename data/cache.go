package data

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// indexVersion changes whenever the same file would be indexed otherwise.
const indexVersion = "counterpoint index 1\n"

// fileSpec is all that decides a file's index.
type fileSpec struct {
	Kind        string // pairs | corpus | queries | documents of a format
	Format      string `json:",omitempty"` // of pairs; "" = our own
	Joined      string `json:",omitempty"` // digest of the files that the rows refer to
	Content     string // SHA-256 of the file's bytes
	Limit       int
	OnError     string
	Instruction string
	Document    string
	Tokenizer   string
}

func (s fileSpec) digest() string {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and integers only
	}
	sum := sha256.Sum256(append([]byte(indexVersion), raw...))
	return hex.EncodeToString(sum[:])
}

// openIndexed opens a file with its index from the cache, or indexes it now. The content is hashed at each
// opening; parsing, decompressing and tokenising happen once per digest.
func openIndexed(path, cacheDir string, spec fileSpec, f format, tok Tokenizer, log *slog.Logger) (*source, error) {
	content, err := contentDigest(path)
	if err != nil {
		return nil, err
	}
	spec.Content, spec.Tokenizer = content, tok.Digest()
	s := &source{path: path, format: f, digest: spec.digest()}
	base := filepath.Join(cacheDir, s.digest[:32])
	keep := spec.Kind != "" && !strings.HasPrefix(spec.Kind, "documents") && !uncached()
	if err = s.load(base, keep); err == nil {
		return s, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		log.Warn("the cached index cannot be used and is made again", "file", path, "cause", err)
	}
	start := time.Now()
	b := &builder{path: path, limit: spec.Limit, skip: spec.OnError == "skip", format: f, tok: tok, log: log}
	kept, err := b.store(base, keep)
	if err != nil {
		return nil, err
	}
	if err = s.load(base, kept); err != nil {
		return nil, fmt.Errorf("open the index just made of %s: %w", path, err)
	}
	log.Info("indexed", "file", path, "rows", s.rows(), "texts", len(s.hashes), "elapsed", time.Since(start).Round(time.Millisecond))
	return s, nil
}

// load opens the cached index and, if they are wanted, the tokens. os.ErrNotExist: something is not there.
func (s *source) load(base string, tokens bool) error {
	x, file, err := loadIndex(s.path, base)
	if err != nil {
		return err
	}
	if tokens {
		s.tokens, err = openTokens(base, x)
		if errors.Is(err, os.ErrNotExist) && exists(base+".untokened") {
			err = nil // they were too many
		}
		if err != nil {
			return errors.Join(err, file.Close())
		}
		now := time.Now()
		_ = os.Chtimes(base+".tokens", now, now) // the ones not used for longest are removed first
	}
	s.index, s.file = x, file
	return nil
}

// contentDigest hashes a file, or the parts of a table one after the other.
func contentDigest(path string) (string, error) {
	parts, err := tableParts(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, part := range parts {
		f, err := os.Open(part)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", fmt.Errorf("read %s: %w", part, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// store indexes the file into base.index, for gzip and Parquet base.rows, and if they are to be kept base.tokens. They
// appear whole or not at all, so that processes may share the folder. kept says that the tokens are there.
func (b *builder) store(base string, keep bool) (kept bool, err error) {
	l, err := openLines(b.path)
	if err != nil {
		return false, err
	}
	defer l.close()
	dir := filepath.Dir(base)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, fmt.Errorf("make the cache folder of %s: %w", b.path, err)
	}
	var x *index
	build := func() error { x, err = b.build(l); return err }
	if l.copied() {
		inner := build
		build = func() error {
			return writeWhole(base+".rows", func(w *bufio.Writer) error {
				b.copy = w
				return inner()
			})
		}
	}
	if keep {
		inner := build
		build = func() error {
			err := writeWhole(base+".tokens", func(w *bufio.Writer) error {
				b.keep = &tokenWriter{out: w}
				if err := errors.Join(b.keep.begin(), inner()); err != nil {
					return err
				}
				if b.keep == nil {
					return errTokensLeftOut
				}
				return nil
			})
			if errors.Is(err, errTokensLeftOut) {
				return os.WriteFile(base+".untokened", nil, 0o644)
			}
			return err
		}
	}
	if err := build(); err != nil {
		return false, err
	}
	trimTokens(dir, base+".tokens", b.log)
	return keep, writeWhole(base+".index", func(w *bufio.Writer) error {
		_, err := w.Write(x.marshal())
		return err
	})
}

// writeWhole writes a file under a temporary name and renames it.
func writeWhole(path string, write func(*bufio.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after the rename
	w := bufio.NewWriterSize(f, 1<<18)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// loadIndex opens a cached index and the file that has the rows. os.ErrNotExist: there is none.
func loadIndex(path, base string) (*index, *os.File, error) {
	raw, err := os.ReadFile(base + ".index")
	if err != nil {
		return nil, nil, err
	}
	x, err := decodeIndex(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s.index: %w", base, err)
	}
	if x.copied == 0 {
		f, err := os.Open(path)
		return x, f, err
	}
	f, err := os.Open(base + ".rows")
	if err != nil {
		return nil, nil, err
	}
	if info, err := f.Stat(); err != nil || info.Size() != x.copied {
		return nil, nil, errors.Join(fmt.Errorf("%s.rows has not the size %d of its index", base, x.copied), err, f.Close())
	}
	return x, f, nil
}

// indexHeader is the fixed part of an index file, as JSON on its second line.
type indexHeader struct {
	Rows, Texts, Skipped int
	Unjudged             int `json:",omitempty"`
	Faults               []string
	Copied               int64
	IDs                  int // bytes of the ids, each ended by LF
}

// marshal lays the index out: version, header line, columns in little-endian, ids, SHA-256 of all before.
func (x *index) marshal() []byte {
	ids := strings.Join(append(x.ids, ""), "\n")
	if len(x.ids) == 0 {
		ids = ""
	}
	head, err := json.Marshal(indexHeader{x.rows(), len(x.hashes), x.skipped, x.unjudged, x.faults, x.copied, len(ids)})
	if err != nil {
		panic(err) // integers and strings only
	}
	var b bytes.Buffer
	b.WriteString(indexVersion)
	b.Write(append(head, '\n'))
	for _, column := range []any{x.offsets, x.sizes, x.lines, x.first, x.positives, x.hashes, x.lengths} {
		_ = binary.Write(&b, binary.LittleEndian, column) // a bytes.Buffer does not fail
	}
	b.WriteString(ids)
	sum := sha256.Sum256(b.Bytes())
	return append(b.Bytes(), sum[:]...)
}

// decodeIndex reads what marshal wrote. Sizes are checked before anything is allocated.
func decodeIndex(raw []byte) (*index, error) {
	n := len(raw) - sha256.Size
	if n < 0 {
		return nil, fmt.Errorf("%d bytes are no index", len(raw))
	}
	if sum := sha256.Sum256(raw[:n]); !bytes.Equal(sum[:], raw[n:]) {
		return nil, errors.New("the check sum is wrong")
	}
	rest, ok := bytes.CutPrefix(raw[:n], []byte(indexVersion))
	line, rest, found := bytes.Cut(rest, []byte("\n"))
	var h indexHeader
	if !ok || !found || json.Unmarshal(line, &h) != nil {
		return nil, errors.New("not an index of this version")
	}
	if h.Rows < 1 || h.Texts < 0 || h.IDs < 0 || h.Rows > len(rest) || h.Texts > len(rest) || h.IDs > len(rest) ||
		22*h.Rows+4+12*h.Texts+h.IDs != len(rest) {
		return nil, fmt.Errorf("%d bytes do not hold %d rows of %d texts", len(rest), h.Rows, h.Texts)
	}
	x := &index{
		offsets: make([]int64, h.Rows), sizes: make([]uint32, h.Rows), lines: make([]uint32, h.Rows), first: make([]uint32, h.Rows+1),
		positives: make([]uint16, h.Rows), hashes: make([]uint64, h.Texts), lengths: make([]uint32, h.Texts),
		skipped: h.Skipped, unjudged: h.Unjudged, faults: h.Faults, copied: h.Copied,
	}
	r := bytes.NewReader(rest)
	for _, column := range []any{x.offsets, x.sizes, x.lines, x.first, x.positives, x.hashes, x.lengths} {
		if err := binary.Read(r, binary.LittleEndian, column); err != nil {
			return nil, err
		}
	}
	for i := range h.Rows {
		if x.first[i] > x.first[i+1] || int(x.first[h.Rows]) != h.Texts {
			return nil, fmt.Errorf("the texts of row %d are out of order", i)
		}
	}
	if h.IDs > 0 {
		x.ids = strings.Split(strings.TrimSuffix(string(rest[len(rest)-h.IDs:]), "\n"), "\n")
		if len(x.ids) != h.Rows {
			return nil, fmt.Errorf("%d ids for %d rows", len(x.ids), h.Rows)
		}
	}
	return x, nil
}
