package data

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
)

// column is a list of texts of a task that are written alike.
type column struct {
	name        string // for messages
	query       bool   // what the columns of one side of a comparison are; decides the limit of length too
	instruction string
	texts       []string
}

// task is an evaluation set before it is tokenised. Its texts, in order, are the slots.
type task struct {
	sheet   Sheet
	columns []column
}

// held is a column's texts one after the other: the file of a source.
type held struct {
	*strings.Reader
	name string
}

func (h held) Name() string { return h.name }
func (h held) Close() error { return nil }

// source indexes the column.
func (c *column) source(tok Tokenizer) (*source, error) {
	x := &index{
		offsets: make([]int64, len(c.texts)), sizes: make([]uint32, len(c.texts)), lines: make([]uint32, len(c.texts)), first: make([]uint32, len(c.texts)+1),
		positives: make([]uint16, len(c.texts)), hashes: make([]uint64, len(c.texts)), lengths: make([]uint32, len(c.texts)),
	}
	s := &source{path: c.name, name: c.name, index: x, format: format{emptyTexts: true, instruction: c.instruction}}
	s.parse = func(line []byte) (record, error) { return record{texts: []string{string(line)}, queries: 1}, nil }
	if !c.query {
		s.document = c.instruction
		s.parse = func(line []byte) (record, error) { return record{texts: []string{string(line)}, positives: 1}, nil }
	}
	var at int64
	for i, t := range c.texts {
		x.offsets[i], x.sizes[i], x.lines[i], x.first[i+1] = at, uint32(len(t)), uint32(i+1), uint32(i+1)
		at += int64(len(t))
	}
	var g errgroup.Group
	workers := min(runtime.GOMAXPROCS(0), len(c.texts))
	for w := range workers {
		g.Go(func() error {
			var buf []int32
			for i := w; i < len(c.texts); i += workers {
				r, err := s.parse([]byte(c.texts[i]))
				if err != nil {
					return err
				}
				x.hashes[i] = r.hash(0)
				buf = s.encode(buf[:0], tok, &r, 0)
				x.lengths[i] = uint32(len(buf))
			}
			return nil
		})
	}
	s.file = held{strings.NewReader(strings.Join(c.texts, "")), c.name}
	return s, g.Wait()
}

// suite tokenises a task.
func (t *task) suite(c SuiteConfig, tok Tokenizer, log *slog.Logger) (*Suite, error) {
	sheet := t.sheet
	s := &Suite{Name: sheet.Name, Queries: sheet.Queries, Documents: sheet.Documents, Qrels: sheet.Qrels, sheet: &sheet, pack: c.pack(tok)}
	var refs []ref
	empty, first := 0, ""
	digest := sha256.New()
	fmt.Fprintln(digest, tok.Digest(), c.MaxLength, c.MaxQuery)
	for i := range t.columns {
		col := &t.columns[i]
		src, err := col.source(tok)
		if err != nil {
			return nil, err
		}
		s.pack.sources = append(s.pack.sources, src)
		role := Positive
		if col.query {
			role = Query
		}
		fmt.Fprintf(digest, "%q %v %q %d\n", col.name, col.query, col.instruction, len(col.texts))
		for row, text := range col.texts {
			refs = append(refs, s.pack.ref(len(refs), int32(i), uint32(row), 0, role, 0))
			fmt.Fprintf(digest, "%q\n", text)
			if strings.TrimSpace(text) == "" {
				if empty++; empty == 1 {
					first = fmt.Sprintf("%s %d", col.name, row+1)
				}
			}
		}
	}
	if len(refs) == 0 {
		return nil, fmt.Errorf("open suite %s: no texts", c.Path)
	}
	if empty > 0 {
		log.Warn("texts are empty and embedded as one blank", "suite", sheet.Name, "count", empty, "first", first)
	}
	if err := json.NewEncoder(digest).Encode(sheet); err != nil {
		return nil, fmt.Errorf("open suite %s: %w", c.Path, err)
	}
	s.digest = hex.EncodeToString(digest.Sum(nil))
	s.shape(refs, len(sheet.Queries), c.ShardTokens)
	return s, nil
}

// held returns the text of a slot of a suite in memory.
func (s *Suite) held(slot int) string {
	for _, src := range s.pack.sources {
		if slot < src.rows() {
			b := make([]byte, src.sizes[slot])
			if _, err := src.file.ReadAt(b, src.offsets[slot]); err != nil && len(b) > 0 {
				panic(fmt.Sprintf("data: text %d of %s: %v", slot, src.path, err)) // memory does not fail
			}
			return string(b)
		}
		slot -= src.rows()
	}
	return ""
}
