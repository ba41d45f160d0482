package data

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// corpus finds documents by their ids: what the rows of Tevatron and BEIR refer to. It holds no texts.
type corpus struct {
	*source
	byID []uint32 // [rows] the rows in the order of their ids
}

// uncounted stands for the tokenizer where a corpus is indexed for its ids alone: only the documents that rows
// refer to are tokenised, as texts of those rows.
type uncounted struct{}

func (uncounted) Encode(dst []int32, _ string) []int32 { return append(dst, 0) }
func (uncounted) Digest() string                       { return "none" }

// openCorpus indexes the file of documents of Tevatron or BEIR. An id that occurs twice is an error.
func openCorpus(path, layout, cacheDir string, log *slog.Logger) (*corpus, error) {
	f := format{emptyTexts: true, parse: parseTevatronDocument}
	if layout == BEIR {
		f = beirFormat(false, "")
	}
	spec := fileSpec{Kind: "documents of " + layout, OnError: "refuse"}
	src, err := openIndexed(path, cacheDir, spec, f, uncounted{}, log)
	if err != nil {
		return nil, err
	}
	c := &corpus{source: src, byID: make([]uint32, src.rows())}
	for i := range c.byID {
		c.byID[i] = uint32(i)
	}
	slices.SortFunc(c.byID, func(a, b uint32) int {
		return cmp.Or(strings.Compare(src.ids[a], src.ids[b]), cmp.Compare(a, b))
	})
	for i, row := range c.byID[1:] {
		if before := c.byID[i]; src.ids[before] == src.ids[row] {
			key := map[bool]string{true: "_id", false: "docid"}[layout == BEIR]
			err := &LineError{File: path, Line: int(src.lines[row]), Key: key, Problem: fmt.Sprintf("%q occurs twice, first on line %d", src.ids[row], src.lines[before])}
			return nil, errors.Join(err, src.close())
		}
	}
	return c, nil
}

// texts reads the documents with these ids, named by key.
func (c *corpus) documents(key string, ids []string) ([]string, error) {
	out := make([]string, len(ids))
	for i, id := range ids {
		at, ok := slices.BinarySearchFunc(c.byID, id, func(row uint32, id string) int { return strings.Compare(c.ids[row], id) })
		if !ok {
			return nil, &keyError{key: key, problem: fmt.Sprintf("the document %q is not in %s", id, c.path), at: -1}
		}
		row := c.byID[at]
		rec, err := c.record(row)
		if err == nil {
			err = c.check(row, &rec, 0)
		}
		if err != nil {
			return nil, err
		}
		if rec.texts[0] == "" {
			return nil, &keyError{key: key, problem: fmt.Sprintf("the document %q is empty (%s)", id, c.where(row)), at: -1}
		}
		out[i] = rec.texts[0]
	}
	return out, nil
}

var (
	tevatronKeys = rowKeys{needs: []string{"query_text", "positive_document_ids"}, may: []string{"negative_document_ids", "query_id", "query_image", "query_video", "query_audio"}}
	documentKeys = rowKeys{needs: []string{"docid"}, may: []string{"document_text", "text", "title", "image", "video", "audio", "document_image", "document_video", "document_audio"}}
)

// parseTevatron reads a row {query_text, positive_document_ids, negative_document_ids} and its documents.
func parseTevatron(line []byte, c *corpus) (Pair, error) {
	var p Pair
	var positives, negatives []string
	err := tevatronKeys.parse(line, func(s *scanner, key string) (err error) {
		switch key {
		case "query_text":
			p.Query, err = s.nonblank(key)
		case "positive_document_ids":
			positives, err = s.ids(key)
		case "negative_document_ids":
			if s.kind() == "null" {
				return s.word("null")
			}
			negatives, err = s.ids(key)
		case "query_id":
			err = s.value(0)
		default:
			err = s.onlyNull(key)
		}
		return err
	})
	if err != nil {
		return p, mixture(Tevatron, line, err)
	}
	if p.Positives, err = c.documents("positive_document_ids", positives); err != nil {
		return p, err
	}
	if p.Negatives, err = c.documents("negative_document_ids", negatives); err != nil {
		return p, err
	}
	return p, p.check("positive_document_ids", "a list of ids is allowed")
}

// parseTevatronDocument reads a document {docid, document_text} or {docid, title, text}.
func parseTevatronDocument(line []byte) (record, error) {
	var id, title, text string
	texts := 0
	err := documentKeys.parse(line, func(s *scanner, key string) (err error) {
		switch key {
		case "docid":
			id, err = s.id(key)
		case "title":
			title, err = s.textOrNull(key)
		case "document_text", "text":
			texts++
			text, err = s.textOrNull(key)
		default:
			err = s.onlyNull(key)
		}
		return err
	})
	if err == nil && texts != 1 {
		err = &keyError{key: "document_text", problem: fmt.Sprintf("found %d of document_text and text; a document needs one of them", texts), at: -1}
	}
	return record{id: id, texts: []string{strings.TrimSpace(title + " " + text)}, positives: 1}, err
}

// id reads an id: a string or a number, as it is written.
func (s *scanner) id(key string) (string, error) {
	if s.kind() == "number" {
		return s.number()
	}
	at := s.i
	id, err := s.nonblank(key)
	if i := strings.IndexFunc(id, func(r rune) bool { return r < ' ' }); err == nil && i >= 0 {
		err = &keyError{key: key, problem: fmt.Sprintf("found %q; an id without control characters is allowed", id), at: at}
	}
	return id, err
}

func (s *scanner) ids(key string) ([]string, error) {
	if k := s.kind(); k != "list" {
		return nil, &keyError{key: key, problem: "found " + article(k) + "; a list of ids is allowed", at: s.i}
	}
	var out []string
	err := s.list(func(int) error {
		id, err := s.id(key)
		out = append(out, id)
		return err
	})
	return out, err
}

// onlyNull refuses what is not text: training on the rest of such a row would be training on another one.
func (s *scanner) onlyNull(key string) error {
	if k := s.kind(); k != "null" {
		return &keyError{key: key, problem: "found " + article(k) + "; only text is read, and null is allowed", at: s.i}
	}
	return s.word("null")
}

// errUnjudged says that a query is not in the judgments of this split: no row, and no fault.
var errUnjudged = errors.New("no document is relevant to the query")

// parseJudged reads a query in BEIR layout and its judged documents: those with a grade above 0 are positives, the
// others negatives, each in the order of their ids.
func parseJudged(line []byte, q Qrels, c *corpus) (record, error) {
	rec, err := parseBEIR(line, true)
	if err != nil {
		return rec, err
	}
	var positives, negatives []string
	for _, id := range sortedIDs(q[rec.id]) {
		if q[rec.id][id] > 0 {
			positives = append(positives, id)
		} else {
			negatives = append(negatives, id)
		}
	}
	if len(positives) == 0 {
		return rec, errUnjudged
	}
	p := Pair{Query: rec.texts[0]}
	if p.Positives, err = c.documents("_id", positives); err != nil {
		return rec, err
	}
	if p.Negatives, err = c.documents("_id", negatives); err != nil {
		return rec, err
	}
	id := rec.id
	rec = pairRecord(p)
	rec.id = id
	return rec, p.check("_id", "")
}

// openQrels reads judgments for training and counts the queries that have a relevant document.
func openQrels(path string) (Qrels, int, error) {
	q, err := openJudgments(path)
	n := 0
	for _, judged := range q {
		for _, grade := range judged {
			if grade > 0 {
				n++
				break
			}
		}
	}
	return q, n, err
}
