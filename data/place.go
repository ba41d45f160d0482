package data

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// place is where the rows of one source are: a file, and for the formats that join files the others.
type place struct {
	Source
	entry   int      // which entry under data it comes from
	columns []string // keys of the first row
	corpus  string   // file of documents, for Tevatron and BEIR
	qrels   string   // judgments, for BEIR
}

// places finds the files of the entries under data and tells their formats. A folder of files is a source for each.
func places(entries []Source) ([]place, error) {
	var all []place
	for i := range entries {
		found, err := entries[i].places()
		if err != nil {
			return nil, err
		}
		for j := range found {
			found[j].entry = i
		}
		all = append(all, found...)
	}
	return all, nil
}

func (c *Source) places() ([]place, error) {
	if c.Format != "" && !slices.Contains(Formats, c.Format) {
		return nil, fmt.Errorf("data: %s: format: %q; allowed: %s", c.Path, c.Format, strings.Join(Formats, ", "))
	}
	parts, err := tableParts(c.Path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	info, err := os.Stat(parts[0])
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	dir := filepath.Dir(c.Path)
	switch {
	case info.IsDir():
		return c.folder()
	case c.Format == "" && judges(c.Path) || c.Format == BEIR && filepath.Base(dir) == "qrels":
		p, err := c.beir(filepath.Dir(dir), c.Path)
		return []place{p}, err
	case c.Format == BEIR:
		return nil, fmt.Errorf("data: %s: format: %s needs a folder with corpus.jsonl, queries.jsonl and qrels/train.tsv, or the path of one of its qrels/*", c.Path, BEIR)
	}
	if m := partName.FindStringSubmatch(filepath.Base(c.Path)); m != nil && m[2] != "*" && m[3] != "00001" {
		return nil, fmt.Errorf("data: %s: one part of a table of %s: write path: %s", c.Path, strings.TrimLeft(m[3], "0"), wholeTable(c.Path))
	}
	p, err := c.file(c.Path)
	return []place{p}, err
}

// judges reports whether a path is one of the judgments of a set in BEIR layout.
func judges(path string) bool {
	dir := filepath.Dir(path)
	if filepath.Base(dir) == "qrels" && strings.HasSuffix(path, ".tsv") {
		return true
	}
	_, queries := FindRows(filepath.Dir(dir), "queries", "")
	_, corpus := FindRows(filepath.Dir(dir), "corpus", "")
	return slices.Contains(judgmentFolders, filepath.Base(dir)) && queries == nil && corpus == nil
}

// file tells the format of one file of rows and finds what belongs to it.
func (c *Source) file(path string) (place, error) {
	p := place{Source: *c}
	p.Path = path
	var err error
	if p.Format, p.columns, err = detectAs(path, c.Format); err != nil {
		return p, err
	}
	if p.Name == "" {
		p.Name = stem(path)
	}
	if c.Format == "" && p.Format == FlagEmbedding && (strings.HasSuffix(filepath.Base(filepath.Dir(path)), "no_in_batch_neg") || strings.HasSuffix(stem(path), "no_in_batch_neg")) {
		return p, fmt.Errorf("data: %s: FlagEmbedding turns in-batch negatives off for names that end in no_in_batch_neg, and they are always on here; write format: %s to train with them", path, FlagEmbedding)
	}
	if p.Format == Tevatron {
		if p.corpus, err = beirFile(filepath.Dir(path), "corpus"); err != nil {
			return p, fmt.Errorf("data: %s: format: %s: the documents are needed in the same folder, as corpus.jsonl or corpus.jsonl.gz", path, Tevatron)
		}
	}
	return p, nil
}

// detectAs is detect where the user may have named the format.
func detectAs(path, forced string) (format string, columns []string, err error) {
	switch forced {
	case "":
		return detect(path)
	case SentenceTransformers:
		columns, err = firstKeys(path)
	}
	return forced, columns, err
}

// folder finds the rows of a folder: BEIR's, or those of every file of rows in it. Sets from the Hub have them in data.
func (c *Source) folder() ([]place, error) {
	files, err := rowFiles(c.Path)
	if err != nil {
		return nil, err
	}
	has := func(name string) bool { _, err := FindRows(c.Path, name, ""); return err == nil }
	others := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return stem(f) == "corpus" || stem(f) == "queries" })
	judged, split, err := judgments(c.Path)
	if err != nil {
		return nil, err
	}
	if c.Format == BEIR || c.Format == "" && has("corpus") && has("queries") && len(judged) > 0 {
		return c.judged(judged, split, others)
	}
	if slices.ContainsFunc(files, func(f string) bool { return stem(f) == "corpus" }) {
		files = slices.DeleteFunc(files, func(f string) bool { return stem(f) == "corpus" })
	}
	if inner := filepath.Join(c.Path, "data"); len(files) == 0 && exists(inner) {
		if files, err = rowFiles(inner); err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("data: %s: no rows in the folder; needed are files ending in %s, or corpus.jsonl, queries.jsonl and qrels/train.tsv", c.Path, sentence(rowEndings, "or"))
	}
	return c.files(files)
}

// judged makes the source of a folder in BEIR layout. Judgments that are meant for a test are trained on only where
// someone says so.
func (c *Source) judged(paths []string, split func(string) string, others []string) ([]place, error) {
	train := slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return split(p) != "train" })
	switch {
	case c.Format == "" && len(others) > 0:
		name := filepath.Join(c.Path, "qrels", "train.tsv")
		if len(train) > 0 {
			name = train[0]
		}
		return nil, fmt.Errorf("data: %s: the folder has a set in BEIR layout and rows in %s: write path: %s or path: %s", c.Path, filepath.Base(others[0]), name, others[0])
	case len(paths) == 0:
		return nil, fmt.Errorf("data: %s: no qrels/train.tsv", c.Path)
	case len(train) == 0:
		return nil, fmt.Errorf("data: %s: no qrels/train.tsv; to train on other judgments write path: %s", c.Path, sentence(paths, "or path:"))
	case len(train) > 1:
		return nil, fmt.Errorf("data: %s: the judgments to train on are there %d times: write path: %s", c.Path, len(train), sentence(train, "or path:"))
	}
	p, err := c.beir(c.Path, train[0])
	return []place{p}, err
}

// files makes a source of each file. All have one format, and none is a split of the same data.
func (c *Source) files(files []string) ([]place, error) {
	splits := []string{"train", "training", "dev", "valid", "validation", "eval", "test"}
	var all []place
	for _, f := range files {
		if len(files) > 1 && slices.Contains(splits, stem(f)) {
			return nil, fmt.Errorf("data: %s: %s is one of %d files in the folder, and its name says that they are parts of one set: write the one to train on as path: %s", c.Path, filepath.Base(f), len(files), sentence(files, "or path:"))
		}
		p, err := c.file(f)
		if err != nil {
			return nil, err
		}
		if len(all) > 0 {
			switch before := all[0]; {
			case p.Format != before.Format:
				return nil, fmt.Errorf("data: %s: %s is of the format %s and %s of the format %s: write one path for each file under data, or force one with format: %s", c.Path,
					filepath.Base(before.Path), before.Format, filepath.Base(f), p.Format, before.Format)
			case stem(all[len(all)-1].Path) == stem(f):
				return nil, fmt.Errorf("data: %s: the folder has %s twice, in two forms: write path: %s or path: %s", c.Path, stem(f), all[len(all)-1].Path, f)
			}
		}
		if p.Name = stem(f); c.Name != "" && len(files) > 1 {
			p.Name = c.Name + "/" + stem(f)
		} else if c.Name != "" {
			p.Name = c.Name
		}
		all = append(all, p)
	}
	return all, nil
}

// beir finds the files of a set in BEIR layout.
func (c *Source) beir(dir, qrels string) (place, error) {
	p := place{Source: *c, qrels: qrels}
	p.Format = BEIR
	var err error
	if p.Path, err = beirFile(dir, "queries"); err != nil {
		return p, fmt.Errorf("data: %w", err)
	}
	if p.corpus, err = beirFile(dir, "corpus"); err != nil {
		return p, fmt.Errorf("data: %w", err)
	}
	if p.Name == "" {
		p.Name = filepath.Base(filepath.Clean(dir))
	}
	return p, nil
}

// rowEndings are how files of rows end.
var rowEndings = []string{".jsonl", ".jsonl.gz", ".parquet"}

// rowFiles lists the files of rows of a folder by name; the parts of a table are one.
func rowFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	var files []string
	for _, e := range entries {
		if name := e.Name(); e.IsDir() || strings.HasPrefix(name, ".") || !slices.ContainsFunc(rowEndings, func(end string) bool { return strings.HasSuffix(name, end) }) {
			continue
		}
		if path := wholeTable(filepath.Join(dir, e.Name())); !slices.Contains(files, path) {
			files = append(files, path)
		}
	}
	return files, nil
}

// stem is a file's name without its ending, and without the number of a part.
func stem(path string) string {
	name := filepath.Base(path)
	if m := partName.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".jsonl"), ".parquet")
}
