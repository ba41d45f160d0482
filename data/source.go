package data

import (
	"errors"
	"fmt"
	"log/slog"
)

// openSource indexes the rows of one place.
func openSource(c *place, cacheDir string, tok Tokenizer, log *slog.Logger) (*source, error) {
	switch c.OnError {
	case "", "refuse", "skip":
	default:
		return nil, fmt.Errorf("data: %s: on_error: %q; refuse and skip are allowed", c.Path, c.OnError)
	}
	if c.Limit < 0 {
		return nil, fmt.Errorf("data: %s: limit: %d; 0 (all) or a number of rows is allowed", c.Path, c.Limit)
	}
	onError := c.OnError
	if onError == "" {
		onError = "refuse"
	}
	spec := fileSpec{Kind: "pairs", Limit: c.Limit, OnError: onError, Instruction: c.Instruction, Document: c.Document}
	if c.Format != Counterpoint {
		spec.Format = c.Format
	}
	f := format{instruction: c.Instruction, document: c.Document}
	documents, relevant, err := c.reader(&f, &spec, cacheDir, log)
	if err != nil {
		return nil, err
	}
	src, err := openIndexed(c.Path, cacheDir, spec, f, tok, log)
	if err == nil && c.Format == BEIR {
		err = src.distinct()
		src.ids = nil // of no use any more
	}
	if err != nil {
		if src != nil {
			err = errors.Join(err, src.close())
		}
		if documents != nil {
			err = errors.Join(err, documents.close())
		}
		return nil, err
	}
	src.name, src.layout, src.limit, src.corpus = c.Name, c.Format, c.Limit, documents
	if src.skipped > 0 {
		log.Warn("rows were left out for errors", "file", c.Path, "skipped", src.skipped, "kept", src.rows(), "first", src.faults)
	}
	if lost := relevant - src.rows() - src.skipped; lost > 0 && c.Limit == 0 {
		log.Warn("judged queries are not in the queries file and are left out", "file", c.Path, "judgments", c.qrels, "count", lost)
	}
	return src, nil
}

// reader sets how the place's rows are read, and in spec what else than their file decides them. It opens the
// documents that the rows refer to, if they do; relevant is the number of queries that BEIR's judgments make rows of.
func (c *place) reader(f *format, spec *fileSpec, cacheDir string, log *slog.Logger) (documents *corpus, relevant int, err error) {
	if c.corpus == "" {
		parse, err := rowParser(c.Format, c.columns)
		if err != nil {
			return nil, 0, fmt.Errorf("data: %s: %w", c.Path, err)
		}
		f.parse = func(line []byte) (record, error) {
			p, err := parse(line)
			return pairRecord(p), err
		}
		return nil, 0, nil
	}
	var judged Qrels
	if c.qrels != "" {
		if judged, relevant, err = openQrels(c.qrels); err != nil {
			return nil, 0, err
		}
		if spec.Joined, err = contentDigest(c.qrels); err != nil {
			return nil, 0, err
		}
		if relevant == 0 {
			return nil, 0, fmt.Errorf("data: %s: no document is relevant to any query", c.qrels)
		}
	}
	if documents, err = openCorpus(c.corpus, c.Format, cacheDir, log); err != nil {
		return nil, 0, err
	}
	spec.Joined += documents.digest
	f.parse = func(line []byte) (record, error) {
		if judged != nil {
			return parseJudged(line, judged, documents)
		}
		p, err := parseTevatron(line, documents)
		return pairRecord(p), err
	}
	return documents, relevant, nil
}

// distinct refuses ids that occur twice.
func (s *source) distinct() error {
	at := make(map[string]int, len(s.ids))
	for i, id := range s.ids {
		if j, ok := at[id]; ok {
			return &LineError{File: s.path, Line: int(s.lines[i]), Key: "_id", Problem: fmt.Sprintf("%q occurs twice, first on line %d", id, s.lines[j])}
		}
		at[id] = i
	}
	return nil
}
