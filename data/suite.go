package data

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// SuiteConfig says where an evaluation set is and how its texts are tokenised.
type SuiteConfig struct {
	Task        string // one of Tasks but MTEBTask; "" = BEIRTask
	Path        string // folder or file, as the task needs; of LongEmbedTask also Passkey or Needle
	Name        string // "" = the folder's name
	Split       string // qrels/SPLIT.tsv; "" = the only one
	Instruction string // put before queries
	Document    string // put before documents
	MaxLength   int    // tokens a text, prompt included
	MaxQuery    int    // tokens a query; 0 = MaxLength
	ShardTokens int    // 0: chosen as for batches, from the whole suite
	Main        string // the metric that stands for the suite; "" = the task's own

	Lengths   []int  // LongEmbedTask: tokens of the documents made; nil = 256, doubled up to 32,768
	Seed      uint64 // LongEmbedTask: of the documents made
	Filler    string // LongEmbedTask: text file that fills them
	Long      bool   // BrightTask: long documents
	Exclusion string // BrightTask: RemoveExcluded, ZeroExcluded or KeepExcluded
	Identical bool   // BEIRTask: a query does not find the document that has its id, as mteb scores ArguAna and others
}

// Suite is an evaluation set. Slots 0..Q-1 are the judged queries, Q..Q+D-1 the documents, in the files' order.
// It is safe for concurrent use.
type Suite struct {
	Name      string
	Queries   []string // [Q] ids
	Documents []string // [D] ids
	Qrels     Qrels    // of Queries; documents that are not in the corpus count as not retrieved

	header Header
	pack   pack
	rows   []uint32 // [Q] row of each query in its file
	sheet  *Sheet   // of suites whose texts are in memory; nil for BEIR layout
	digest string

	excluded map[string][]string // of BEIR layout: what a query may not find
}

// OpenSuite reads and indexes an evaluation set in BEIR layout; OpenSuites opens the other kinds.
func OpenSuite(c SuiteConfig, tok Tokenizer, cacheDir string, log *slog.Logger) (*Suite, error) {
	cacheDir, done, err := cacheFolder(cacheDir)
	if err != nil {
		return nil, err
	}
	defer done()
	if c.MaxLength < 1 {
		return nil, fmt.Errorf("open suite %s: max_length: %d; at least 1 is allowed", c.Path, c.MaxLength)
	}
	if info, err := os.Stat(c.Path); err != nil {
		return nil, fmt.Errorf("open suite: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("open suite %s: a file; a folder with corpus.jsonl, queries.jsonl and qrels is needed", c.Path)
	}
	s := &Suite{Name: c.Name, pack: c.pack(tok)}
	if s.Name == "" {
		s.Name = filepath.Base(filepath.Clean(c.Path))
	}
	for _, f := range []struct {
		kind, instruction string
	}{{"queries", c.Instruction}, {"corpus", c.Document}} {
		src, err := openBEIR(c.Path, f.kind, f.instruction, cacheDir, tok, log)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.pack.sources = append(s.pack.sources, src)
	}
	if err := s.judge(c, log); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.cut(c.ShardTokens)
	return s, nil
}

func (c SuiteConfig) pack(tok Tokenizer) pack {
	return pack{tok: tok, max: c.MaxLength, query: c.MaxQuery}
}

// openBEIR opens one file of a suite and refuses ids that occur twice.
func openBEIR(dir, kind, instruction, cacheDir string, tok Tokenizer, log *slog.Logger) (*source, error) {
	path, err := beirFile(dir, kind)
	if err != nil {
		return nil, err
	}
	return openBEIRFile(path, kind, instruction, cacheDir, tok, log)
}

func openBEIRFile(path, kind, instruction, cacheDir string, tok Tokenizer, log *slog.Logger) (*source, error) {
	spec := fileSpec{Kind: kind, OnError: "refuse", Instruction: instruction}
	src, err := openIndexed(path, cacheDir, spec, beirFormat(kind == "queries", instruction), tok, log)
	if err != nil {
		return nil, err
	}
	if err := src.distinct(); err != nil {
		return nil, errors.Join(err, src.close())
	}
	return src, nil
}

// judge reads the judgments and keeps the judged queries.
func (s *Suite) judge(c SuiteConfig, log *slog.Logger) error {
	path, err := qrelsPath(c.Path, c.Split)
	if err != nil {
		return err
	}
	qrels, err := openJudgments(path)
	if err != nil {
		return err
	}
	queries, corpus := s.pack.sources[0], s.pack.sources[1]
	s.Documents = corpus.ids
	known := make(map[string]bool, len(corpus.ids))
	for _, id := range corpus.ids {
		known[id] = true
	}
	s.Qrels = Qrels{}
	for row, id := range queries.ids {
		if judged, ok := qrels[id]; ok {
			s.Queries = append(s.Queries, id)
			s.rows = append(s.rows, uint32(row))
			s.Qrels[id] = judged
		}
	}
	if len(s.Queries) == 0 {
		return fmt.Errorf("open suite %s: no query of %s is judged in %s", c.Path, queries.path, path)
	}
	var strangers, lost []string
	found := 0
	for id, judged := range qrels {
		if s.Qrels[id] == nil {
			strangers = append(strangers, id)
			continue
		}
		for document := range judged {
			if known[document] {
				found++
			} else {
				lost = append(lost, document)
			}
		}
	}
	if found == 0 {
		return fmt.Errorf("open suite %s: no document that %s judges is in %s, %q for example", c.Path, path, corpus.path, slices.Min(lost))
	}
	warnIDs(log, "judged queries are not in the queries file and are left out", path, strangers)
	warnIDs(log, "judged documents are not in the corpus and count as not retrieved", path, lost)
	raw := sha256.New()
	fmt.Fprintln(raw, queries.digest, corpus.digest, c.MaxLength)
	if c.Identical {
		fmt.Fprintln(raw, "identical")
		s.excluded = map[string][]string{}
		for _, q := range s.Queries {
			if known[q] {
				s.excluded[q] = []string{q}
			}
		}
	}
	if c.MaxQuery > 0 {
		fmt.Fprintln(raw, "queries", c.MaxQuery)
	}
	for _, q := range s.Queries {
		for _, d := range sortedIDs(s.Qrels[q]) {
			fmt.Fprintf(raw, "%q %q %d\n", q, d, s.Qrels[q][d])
		}
	}
	s.digest = hex.EncodeToString(raw.Sum(nil))
	return nil
}

func sortedIDs(judged map[string]int) []string {
	ids := make([]string, 0, len(judged))
	for id := range judged {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func warnIDs(log *slog.Logger, text, file string, ids []string) {
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	log.Warn(text, "file", file, "count", len(ids), "first", ids[:min(len(ids), faultsListed)])
}

// cut numbers the slots and cuts the texts into shards.
func (s *Suite) cut(limit int) {
	refs := make([]ref, 0, len(s.Queries)+len(s.Documents))
	for _, row := range s.rows {
		refs = append(refs, s.pack.ref(len(refs), 0, row, 0, Query, 0))
	}
	for row := range s.Documents {
		refs = append(refs, s.pack.ref(len(refs), 1, uint32(row), 0, Positive, 0))
	}
	s.shape(refs, len(s.Queries), limit)
}

// shape packs the texts into shards of limit tokens, 0 for the default.
func (s *Suite) shape(refs []ref, queries, limit int) {
	if limit == 0 {
		total := 0.0
		for _, r := range refs {
			total += float64(r.tokens)
		}
		limit = shardSize(total, minShardTokens)
	}
	s.header = Header{Source: -1, Queries: queries, Slots: len(refs)}
	s.header.Tokens = s.pack.pack(refs, limit)
}

// Header describes the suite as it would a batch: Queries, Slots and Tokens are set; Step is the caller's.
func (s *Suite) Header() Header { return s.header }

// Digest identifies texts, prompts, tokenizer and judgments.
func (s *Suite) Digest() string { return s.digest }

// Truncated returns how many texts are longer than MaxLength and are embedded without their end.
func (s *Suite) Truncated() int {
	n := 0
	for _, r := range s.pack.refs {
		x := s.pack.sources[r.source].index
		if lo, _ := x.texts(r.row); x.lengths[lo+int(r.text)] > uint32(s.pack.limit(r.role)) {
			n++
		}
	}
	return n
}

// Shards returns the number of shards.
func (s *Suite) Shards() int { return len(s.header.Tokens) }

// Shard reads and tokenises shard i.
func (s *Suite) Shard(i int) (Shard, error) { return s.pack.shard(i) }

// Text returns the text of a slot without its prompt: what a lexical baseline reads.
func (s *Suite) Text(slot int) (string, error) {
	if s.sheet != nil {
		return s.held(slot), nil
	}
	src, row := s.pack.sources[1], uint32(0)
	if slot < len(s.rows) {
		src, row = s.pack.sources[0], s.rows[slot]
	} else {
		row = uint32(slot - len(s.rows))
	}
	rec, err := src.record(row)
	if err != nil {
		return "", err
	}
	return rec.texts[0], src.check(row, &rec, 0)
}

// Close closes the files.
func (s *Suite) Close() error {
	var errs []error
	for _, src := range s.pack.sources {
		errs = append(errs, src.close())
	}
	return errors.Join(errs...)
}
