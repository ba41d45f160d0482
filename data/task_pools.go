package data

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// rerankTask reads {query, positive, negative}: each row's documents are ranked for its query alone. Ids are mteb's, so that
// ties put a negative document first. A folder is in the form that mteb's newer sets have: corpus, queries, judgments and
// top_ranked.
func rerankTask(c SuiteConfig, log *slog.Logger) (*task, error) {
	r := newRetrieval("map")
	r.sheet.Pools = map[string][]string{}
	if isDir(c.Path) {
		return r.folder(c, log)
	}
	n := 0
	err := eachRow(c.Path, func(row *Row) error {
		queries, err := row.Texts("query")
		if err != nil {
			return err
		}
		positive, err := row.Texts("positive")
		if err != nil {
			return err
		}
		negative, err := row.Texts("negative")
		if err != nil {
			return err
		}
		if len(queries) == 0 {
			return row.fault("query", "missing")
		}
		if len(positive) == 0 || len(negative) == 0 {
			return nil // nothing to rank: mteb leaves such rows out too
		}
		for _, text := range queries {
			id := fmt.Sprintf("q%06d", n)
			if err := r.query(id, text); err != nil {
				return named(row, err)
			}
			for kind, texts := range [][]string{positive, negative} {
				for i, t := range texts {
					name := fmt.Sprintf("%s_%d_%05d", []string{"apositive", "negative"}[kind], n, i)
					r.sheet.Pools[id] = append(r.sheet.Pools[id], name)
					if err := errors.Join(r.sheet.Qrels.Judge(id, name, 1-kind), r.document(name, t)); err != nil {
						return named(row, err)
					}
				}
			}
			n++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r.done(c, log)
}

// folder reads corpus, queries, judgments and the documents to rank of each query.
func (r *retrieval) folder(c SuiteConfig, log *slog.Logger) (*task, error) {
	if err := r.judgments(c, c.Split); err != nil {
		return nil, err
	}
	if err := r.corpus(c, "corpus", c.Split); err != nil {
		return nil, err
	}
	if err := r.judged(c); err != nil {
		return nil, err
	}
	if err := r.lists(c, "top_ranked", r.sheet.Pools); err != nil {
		return nil, err
	}
	return r.done(c, log)
}

// judged reads the queries that have judgments.
func (r *retrieval) judged(c SuiteConfig) error {
	return c.rows("queries", c.Split, func(row *Row) error {
		id, err := rowID(row, "_id", "qid", "id")
		if err != nil {
			return err
		}
		text, err := row.Text("text")
		if err != nil || r.sheet.Qrels[id] == nil {
			return err
		}
		return named(row, r.query(id, text))
	})
}

// lists reads lists of documents by query.
func (r *retrieval) lists(c SuiteConfig, name string, into map[string][]string) error {
	return c.rows(name, c.Split, func(row *Row) error {
		id, err := rowID(row, "query-id", "qid")
		if err == nil {
			into[id], err = row.IDs("corpus-ids")
		}
		return err
	})
}

// followTask reads FollowIR as mteb's data sets have it: corpus, queries with ids QUERY-og and QUERY-changed, an instruction
// for each, judgments, the documents that the change concerns, and the pool that is ranked. A query's text is
// query, blank, instruction.
func followTask(c SuiteConfig, log *slog.Logger) (*task, error) {
	r := newRetrieval("p-mrr")
	r.sheet.Group = FollowIRTask
	r.sheet.Pools, r.sheet.Changed = map[string][]string{}, map[string][]string{}
	if err := r.judgments(c, c.Split); err != nil {
		return nil, err
	}
	if err := r.corpus(c, "corpus", c.Split); err != nil {
		return nil, err
	}
	instructions := map[string]string{}
	err := c.rows("instruction", c.Split, func(row *Row) error {
		id, err := rowID(row, "query-id", "_id", "id")
		if err == nil {
			instructions[id], err = row.Text("instruction")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	bare := 0
	err = c.rows("queries", c.Split, func(row *Row) error {
		id, err := rowID(row, "_id", "id")
		if err != nil {
			return err
		}
		text, err := row.Text("text")
		if err != nil || r.sheet.Qrels[id] == nil {
			return err
		}
		if instructions[id] == "" {
			bare++
		}
		return named(row, r.query(id, strings.TrimSpace(text+" "+instructions[id])))
	})
	if err != nil {
		return nil, err
	}
	if bare > 0 {
		log.Warn("queries have no instruction of their own and are asked without", "suite", c.Path, "count", bare)
	}
	if err := r.lists(c, "top_ranked", r.sheet.Pools); err != nil {
		return nil, err
	}
	if err := r.lists(c, "qrel_diff", r.sheet.Changed); err != nil {
		return nil, err
	}
	if err := r.follow(c, log); err != nil {
		return nil, err
	}
	return r.done(c, log)
}

// follow checks that the changes are of queries that are asked under both instructions: p-MRR leaves others out.
func (r *retrieval) follow(c SuiteConfig, log *slog.Logger) error {
	var alone []string
	for id := range r.sheet.Changed {
		if !r.place["q "+id+"-og"] || !r.place["q "+id+"-changed"] {
			alone = append(alone, id)
			delete(r.sheet.Changed, id)
		}
	}
	if len(r.sheet.Changed) == 0 {
		return fmt.Errorf("open suite %s: no query of qrel_diff is there, and judged, both as QUERY-og and as QUERY-changed", c.Path)
	}
	warnIDs(log, "queries of qrel_diff are not there, and judged, both as QUERY-og and as QUERY-changed: p-MRR leaves them out", c.Path, alone)
	return nil
}
