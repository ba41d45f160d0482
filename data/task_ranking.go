package data

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
)

// retrieval is a ranking task while it is read.
type retrieval struct {
	task
	queries, documents []string // texts
	place              map[string]bool
}

func newRetrieval(main string) *retrieval {
	return &retrieval{task: task{sheet: Sheet{Main: main, Qrels: Qrels{}}}, place: map[string]bool{}}
}

func (r *retrieval) query(id, text string) error {
	if strings.TrimSpace(text) == "" {
		return fmt.Errorf("the query %q is empty", id)
	}
	if r.place["q "+id] {
		return fmt.Errorf("the query %q occurs twice", id)
	}
	r.place["q "+id] = true
	r.sheet.Queries, r.queries = append(r.sheet.Queries, id), append(r.queries, text)
	return nil
}

func (r *retrieval) document(id, text string) error {
	if r.place["d "+id] {
		return fmt.Errorf("the document %q occurs twice", id)
	}
	r.place["d "+id] = true
	r.sheet.Documents, r.documents = append(r.sheet.Documents, id), append(r.documents, text)
	return nil
}

// done makes the columns, and warns of judgments and exclusions that name what is not there.
func (r *retrieval) done(c SuiteConfig, log *slog.Logger) (*task, error) {
	if len(r.queries) == 0 || len(r.documents) == 0 {
		return nil, fmt.Errorf("open suite %s: %d queries and %d documents; at least one of each is needed", c.Path, len(r.queries), len(r.documents))
	}
	var strangers, lost, hopeless []string
	found := 0
	for id, judged := range r.sheet.Qrels {
		if !r.place["q "+id] {
			strangers = append(strangers, id)
			delete(r.sheet.Qrels, id)
			continue
		}
		out := r.sheet.Excluded[id]
		left, relevant := 0, 0
		for document, grade := range judged {
			if !r.place["d "+document] {
				lost = append(lost, document)
				continue
			}
			found++
			if grade > 0 {
				relevant++
				if !slices.Contains(out, document) {
					left++
				}
			}
		}
		if relevant > 0 && left == 0 {
			hopeless = append(hopeless, id)
		}
	}
	if found == 0 {
		return nil, fmt.Errorf("open suite %s: no judged document of any query is in the corpus", c.Path)
	}
	warnIDs(log, "judged queries are not among the queries and are left out", c.Path, strangers)
	warnIDs(log, "judged documents are not in the corpus and count as not retrieved", c.Path, lost)
	if r.sheet.Exclusion == RemoveExcluded {
		warnIDs(log, "every relevant document of these queries is excluded: they score 0", c.Path, hopeless)
	}
	if r.sheet.Pools != nil {
		var bare, strange []string
		for _, id := range r.sheet.Queries {
			if len(r.sheet.Pools[id]) == 0 {
				bare = append(bare, id)
			}
			for _, d := range r.sheet.Pools[id] {
				if !r.place["d "+d] {
					strange = append(strange, d)
				}
			}
		}
		warnIDs(log, "queries have no documents to rank and score 0", c.Path, bare)
		warnIDs(log, "documents to rank are not in the corpus and are not found", c.Path, strange)
	}
	r.columns = []column{
		{name: "queries of " + c.Path, query: true, instruction: c.Instruction, texts: r.queries},
		{name: "documents of " + c.Path, instruction: c.Document, texts: r.documents},
	}
	return &r.task, nil
}

// named puts file and row before a fault of the content.
func named(row *Row, err error) error {
	var line *LineError
	if err == nil || errors.As(err, &line) {
		return err
	}
	return row.fault("", err.Error())
}

// rows opens NAME under the suite's folder and calls each for its rows.
func (c *SuiteConfig) rows(name, split string, each func(row *Row) error) error {
	path, err := FindRows(c.Path, name, split)
	if err != nil {
		return fmt.Errorf("open suite: %w", err)
	}
	return eachRow(path, each)
}

// passage joins title and text as benchmarks do.
func passage(row *Row) (string, error) {
	key, err := oneOf(row, "text", "content", "contents")
	if err != nil {
		if row.Kind("text") == "" {
			return "", err
		}
		key = "text"
	}
	text, err := row.Text(key)
	if err != nil || !row.Has("title") {
		return strings.TrimSpace(text), err
	}
	title, err := row.Text("title")
	return strings.TrimSpace(title + " " + text), err
}

func rowID(row *Row, keys ...string) (string, error) {
	key, err := oneOf(row, keys...)
	if err != nil {
		return "", err
	}
	return row.ID(key)
}

// judgments reads rows or a TSV of query, document and grade.
func (r *retrieval) judgments(c SuiteConfig, split string) error {
	if path, err := qrelsPath(c.Path, split); err == nil {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		r.sheet.Qrels, err = ReadQrels(path, f)
		return err
	}
	name := "qrels"
	if _, err := FindRows(c.Path, name, split); errors.Is(err, os.ErrNotExist) {
		name = "default" // what mteb's folders on the hub call it
		if _, err := FindRows(c.Path, name, split); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("open suite %s: no judgments: neither qrels/*.tsv nor rows of qrels or default are there", c.Path)
		}
	}
	return c.rows(name, split, func(row *Row) error {
		query, err := rowID(row, "query-id", "qid", "query_id")
		if err != nil {
			return err
		}
		document, err := rowID(row, "corpus-id", "doc_id", "docid", "corpus_id")
		if err != nil {
			return err
		}
		grade := 1
		if row.Has("score") {
			if grade, err = row.Int("score"); err != nil {
				return err
			}
		}
		return named(row, r.sheet.Qrels.Judge(query, document, grade))
	})
}

// corpus reads the documents.
func (r *retrieval) corpus(c SuiteConfig, name, split string) error {
	return c.rows(name, split, func(row *Row) error {
		id, err := rowID(row, "_id", "id", "doc_id", "docid")
		if err != nil {
			return err
		}
		text, err := passage(row)
		if err != nil {
			return err
		}
		return named(row, r.document(id, text))
	})
}

// longTask reads a real task of LongEmbed: corpus {doc_id, text}, queries {qid, text}, qrels {qid, doc_id}.
func longTask(c SuiteConfig, main string, log *slog.Logger) (*task, error) {
	r := newRetrieval(main)
	if err := r.judgments(c, c.Split); err != nil {
		return nil, err
	}
	if err := r.corpus(c, "corpus", c.Split); err != nil {
		return nil, err
	}
	if err := r.judged(c); err != nil {
		return nil, err
	}
	return r.done(c, log)
}

// brightTask reads BRIGHT: examples {id, query, gold_ids, gold_ids_long, excluded_ids} and documents {id, content}. Of a
// folder of several sets Split names one; -long documents and gold_ids_long belong together.
func brightTask(c SuiteConfig, log *slog.Logger) (*task, error) {
	r := newRetrieval("ndcg@10")
	r.sheet.Excluded = map[string][]string{}
	documents, gold := "documents", "gold_ids"
	if c.Long {
		documents, gold = "long_documents", "gold_ids_long"
	}
	if err := r.corpus(c, documents, c.Split); err != nil {
		return nil, err
	}
	err := c.rows("examples", c.Split, func(row *Row) error {
		id, err := row.ID("id")
		if err != nil {
			return err
		}
		text, err := row.Text("query")
		if err != nil {
			return err
		}
		if err := r.query(id, text); err != nil {
			return named(row, err)
		}
		ids, err := row.IDs(gold)
		if err != nil {
			return err
		}
		for _, d := range ids {
			if d == noExclusion {
				continue
			}
			if err := r.sheet.Qrels.Judge(id, d, 1); err != nil {
				return named(row, err)
			}
		}
		out, err := row.IDs("excluded_ids")
		if err != nil {
			return err
		}
		if out = slices.DeleteFunc(out, func(d string) bool { return d == noExclusion }); len(out) > 0 {
			r.sheet.Excluded[id] = out
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.sheet.Exclusion = c.Exclusion
	return r.done(c, log)
}

// noExclusion is what BRIGHT writes where a query excludes nothing.
const noExclusion = "N/A"
