package encode

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/counterpoint-ml/counterpoint/data"
)

// Stream embeds a file of texts of any length in windows, in the order of the file.
type Stream struct {
	Encoder *Encoder
	Prompt  string // put before every text
	Input   io.Reader
	Name    string // of the input, for errors
	Format  string // one of Formats

	// Out is the file of vectors. Until all of it is there it is called Out.partial, beside a small file that says how
	// far it is; Resume goes on from there.
	Out    string
	Resume bool
	Stdout io.Writer // if Out is ""

	Report func(Stats) // after each window; nil = none
}

// Stats says how far a stream is.
type Stats struct {
	Texts     int64
	Skipped   int64 // of them, embedded before a resume
	Tokens    int64
	Truncated int64
	Seconds   float64
	Complete  bool // Out was there already
}

// progress is Out.partial.json.
type progress struct {
	Rows      int64  `json:"rows"`
	Bytes     int64  `json:"bytes"`
	Truncated int64  `json:"truncated"`
	Tokens    int64  `json:"tokens"`
	Input     string `json:"input"`    // digest of the lines that the rows are of
	Settings  string `json:"settings"` // what the vectors depend on besides
}

const (
	windowBatches = 16
	windowTexts   = 1 << 14
)

// Run embeds everything. When it is interrupted, what was embedded stays for a resume.
func (s *Stream) Run(ctx context.Context) (Stats, error) {
	if !slices.Contains(Formats, s.Format) {
		return Stats{}, fmt.Errorf("vectors: format %q, want %s", s.Format, strings.Join(Formats, ", "))
	}
	in := newLines(s.Name, s.Input)
	if s.Out == "" {
		if s.Format != JSONL || s.Resume {
			return Stats{}, errors.New("vectors: npy and parquet, and to resume, need a file to write to")
		}
		return s.embed(ctx, in, s.Stdout, progress{}, nil)
	}
	if _, err := os.Stat(s.Out); err == nil && s.Resume {
		return Stats{Complete: true}, nil
	}
	p, err := s.position(in)
	if err != nil {
		return Stats{}, err
	}
	f, err := os.OpenFile(s.Out+".partial", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return Stats{}, fmt.Errorf("vectors: %w", err)
	}
	defer f.Close()
	if p.Bytes == 0 {
		p.Bytes = int64(len(header(s.Format, 0, 0)))
	}
	if err := errors.Join(f.Truncate(p.Bytes), seek(f, p.Bytes)); err != nil {
		return Stats{}, fmt.Errorf("vectors %s: %w", f.Name(), err)
	}
	stats, err := s.embed(ctx, in, f, p, f.Sync)
	if err != nil {
		return stats, err
	}
	if s.Format == Parquet {
		if err := s.table(f); err != nil {
			return stats, fmt.Errorf("vectors %s: %w", s.Out, err)
		}
		return stats, errors.Join(f.Close(), remove(s.Out+".partial"), remove(s.Out+".partial.json"))
	}
	if _, err := f.WriteAt(header(s.Format, stats.Texts, s.Encoder.Width()), 0); err != nil {
		return stats, fmt.Errorf("vectors %s: %w", f.Name(), err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return stats, fmt.Errorf("vectors %s: %w", f.Name(), err)
	}
	return stats, errors.Join(os.Rename(s.Out+".partial", s.Out), remove(s.Out+".partial.json"))
}

func seek(f *os.File, at int64) error {
	_, err := f.Seek(at, io.SeekStart)
	return err
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// settings is everything besides the input that decides the vectors.
func (s *Stream) settings() string {
	e := s.Encoder
	text, err := json.Marshal(map[string]any{
		"model": e.Dir, "tokenizer": e.tok.Digest(), "prompt": s.Prompt, "format": s.Format, "width": e.Width(), "max_length": e.MaxLength,
		"attention": e.Attention, "pooling": e.Pooling, "special": e.Special, "normalize": e.Normalize, "numerics": e.Numerics,
	})
	if err != nil {
		panic(err) // plain values
	}
	return string(text)
}

// position returns where to go on, with the input's lines until there read.
func (s *Stream) position(in *lines) (progress, error) {
	path := s.Out + ".partial.json"
	if !s.Resume {
		return progress{}, remove(path)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return progress{}, nil
	}
	if err != nil {
		return progress{}, fmt.Errorf("resume: %w", err)
	}
	var p progress
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("resume: %s: %w", path, err)
	}
	if now := s.settings(); p.Settings != now {
		return p, fmt.Errorf("resume: %s was begun with %s, this is %s", s.Out+".partial", p.Settings, now)
	}
	if info, err := os.Stat(s.Out + ".partial"); err != nil || info.Size() < p.Bytes {
		return p, fmt.Errorf("resume: %s.partial should have %d bytes at least (%w)", s.Out, p.Bytes, errors.Join(err, fs.ErrInvalid))
	}
	for range p.Rows {
		if _, err := in.next(); err != nil {
			return p, fmt.Errorf("resume: %d texts were embedded, the input has fewer: %w", p.Rows, err)
		}
	}
	if in.digest() != p.Input {
		return p, fmt.Errorf("resume: the first %d texts of %s are not those that were embedded", p.Rows, s.Name)
	}
	return p, nil
}

// embed goes on from p. sync, if not nil, makes a window durable before it counts.
func (s *Stream) embed(ctx context.Context, in *lines, w io.Writer, p progress, sync func() error) (Stats, error) {
	e := s.Encoder
	began := time.Now()
	stats := Stats{Texts: p.Rows, Skipped: p.Rows, Truncated: p.Truncated, Tokens: p.Tokens}
	p.Settings = s.settings()
	for done := false; !done; {
		var window []Line
		var texts []data.Text
		for tokens := 0; len(texts) < windowTexts && tokens < windowBatches*e.batch; {
			line, err := in.next()
			if errors.Is(err, io.EOF) {
				done = true
				break
			}
			if err != nil {
				return stats, err
			}
			x, cut := e.Tokenize(s.Prompt, line.Text)
			if cut {
				p.Truncated++
			}
			tokens += len(x.Tokens)
			p.Tokens += int64(len(x.Tokens))
			window, texts = append(window, line), append(texts, x)
		}
		if len(texts) == 0 {
			break
		}
		rows, err := e.Embed(ctx, texts)
		if err != nil {
			return stats, err
		}
		for i, v := range rows {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				return stats, fmt.Errorf("%s: the embedding of text %d has a value that is not finite", s.Name, p.Rows+int64(i/e.Width())+1)
			}
		}
		n, err := writeRows(w, s.Format, window, rows, e.Width())
		if err != nil {
			return stats, fmt.Errorf("vectors: %w", err)
		}
		p.Rows, p.Bytes, p.Input = p.Rows+int64(len(texts)), p.Bytes+n, in.digest()
		if sync != nil {
			if err := errors.Join(sync(), s.save(p)); err != nil {
				return stats, fmt.Errorf("vectors %s: %w", s.Out, err)
			}
		}
		stats.Texts, stats.Tokens, stats.Truncated, stats.Seconds = p.Rows, p.Tokens, p.Truncated, time.Since(began).Seconds()
		if s.Report != nil {
			s.Report(stats)
		}
	}
	return stats, nil
}

// save replaces the file that says how far the vectors are.
func (s *Stream) save(p progress) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := s.Out + ".partial.json"
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func appendLittle(dst []byte, values []float32) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	return dst
}
