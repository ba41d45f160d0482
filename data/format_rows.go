package data

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// rowParser returns the reader of the rows of a format that needs no other file. columns are the keys of the file's
// first row.
func rowParser(format string, columns []string) (func(line []byte) (Pair, error), error) {
	var parse func(line []byte) (Pair, error)
	switch format {
	case Counterpoint:
		parse = parsePair
	case Echo:
		parse = parseEcho
	case FlagEmbedding:
		parse = parseFlag
	case TevatronLegacy:
		parse = parsePassages
	case SentenceTransformers:
		keys, err := columnKeys(columns)
		if err != nil {
			return nil, err
		}
		parse = func(line []byte) (Pair, error) { return parseColumns(line, keys) }
	default:
		return nil, fmt.Errorf("format: %q; allowed: %s", format, strings.Join(Formats, ", "))
	}
	return func(line []byte) (Pair, error) {
		p, err := parse(line)
		return p, mixture(format, line, err)
	}, nil
}

// mixture adds to a fault for want of a key that the row is of another format than the file.
func mixture(format string, line []byte, err error) error {
	var key *keyError
	if !errors.As(err, &key) || !strings.HasPrefix(key.problem, "missing") {
		return err
	}
	keys, bad := topKeys(line)
	if found := rowFormats(keys); bad == nil && len(found) == 1 && found[0] != format {
		problem := fmt.Sprintf("%s. The row is of the format %s (%s) and the file is read as %s (%s): write one file for each format, or force one with format: %s",
			strings.TrimSuffix(key.problem, "."), found[0], marksOf(found[0]), format, marksOf(format), found[0])
		return &keyError{key: key.key, problem: problem, at: key.at}
	}
	return err
}

var echoKeys = rowKeys{needs: []string{"query", "positive"}, may: []string{"negative"}}

// parseEcho reads a row of echo-data: {query, positive, negative}, each a text or a list of texts.
func parseEcho(line []byte) (Pair, error) {
	var p Pair
	err := echoKeys.parse(line, func(s *scanner, key string) (err error) {
		switch key {
		case "query":
			p.Query, err = s.nonblank(key)
		case "positive":
			p.Positives, err = s.oneOrMore(key)
		case "negative":
			p.Negatives, err = s.negatives(key)
		}
		return err
	})
	if err == nil {
		err = p.check("positive", "a text or a list of texts is allowed")
	}
	return p, err
}

var flagKeys = rowKeys{needs: []string{"query", "pos"}, may: []string{"neg", "prompt"}}

// parseFlag reads a row of FlagEmbedding: {query, pos, neg, prompt}. Its prompt is put before the query as it is and
// ends in a colon as a rule; ours ends without one. Scores and type are not read.
func parseFlag(line []byte) (Pair, error) {
	var p Pair
	err := flagKeys.parse(line, func(s *scanner, key string) (err error) {
		switch key {
		case "query":
			p.Query, err = s.nonblank(key)
		case "pos":
			p.Positives, err = s.texts(key)
		case "neg":
			p.Negatives, err = s.negatives(key)
		case "prompt":
			p.Task, err = s.textOrNull(key)
			p.Task = strings.TrimSuffix(strings.TrimSpace(p.Task), ":")
		}
		return err
	})
	if err == nil {
		err = p.check("pos", "a list of texts is allowed")
	}
	return p, err
}

var (
	passagesKeys = rowKeys{needs: []string{"query", "positive_passages"}, may: []string{"negative_passages"}}
	passageKeys  = rowKeys{needs: []string{"text"}, may: []string{"title", "docid"}}
)

// parsePassages reads a row of Tevatron before 2025: the passages are in it. A document's text is title, blank, text.
func parsePassages(line []byte) (Pair, error) {
	var p Pair
	err := passagesKeys.parse(line, func(s *scanner, key string) (err error) {
		switch key {
		case "query":
			p.Query, err = s.nonblank(key)
		case "positive_passages":
			p.Positives, err = s.passages(key)
		case "negative_passages":
			if s.kind() == "null" {
				return s.word("null")
			}
			p.Negatives, err = s.passages(key)
		}
		return err
	})
	if err == nil {
		err = p.check("positive_passages", "a list of passages {docid, title, text} is allowed")
	}
	return p, err
}

func (s *scanner) passages(key string) ([]string, error) {
	if k := s.kind(); k != "list" {
		return nil, &keyError{key: key, problem: "found " + article(k) + "; a list of passages {docid, title, text} is allowed", at: s.i}
	}
	var out []string
	err := s.list(func(i int) error {
		if k := s.kind(); k != "object" {
			return &keyError{key: key, problem: "found " + article(k) + "; a passage {docid, title, text} is allowed", at: s.i}
		}
		at := s.i
		title, text, err := s.passage()
		var inner *keyError
		if errors.As(err, &inner) {
			inner.key = fmt.Sprintf("%s[%d].%s", key, i, inner.key)
			if inner.at < 0 {
				inner.at = at
			}
			return inner
		}
		whole := strings.TrimSpace(title + " " + text)
		if err == nil && whole == "" {
			return &keyError{key: fmt.Sprintf("%s[%d].text", key, i), problem: "found an empty text", at: at}
		}
		out = append(out, whole)
		return err
	})
	return out, err
}

func (s *scanner) passage() (title, text string, err error) {
	var have, unknown []string
	err = s.object(func(key string) (err error) {
		switch key {
		case "title":
			title, err = s.textOrNull(key)
		case "text":
			text, err = s.text(key)
		case "docid":
			err = s.value(0)
		default:
			unknown = append(unknown, key)
			return s.value(0)
		}
		have = append(have, key)
		return err
	})
	if err == nil {
		err = passageKeys.check(have, unknown)
	}
	return title, text, err
}

// columnKeys are the columns of a file for sentence-transformers: their order counts and not their names.
func columnKeys(columns []string) (*rowKeys, error) {
	for _, c := range columns {
		if slices.Contains([]string{"label", "labels", "score", "scores"}, c) {
			return nil, fmt.Errorf("the column %q makes these rows for another loss: a row for InfoNCE is anchor, positive and perhaps negatives, without a %s", c, c)
		}
	}
	if len(columns) < 2 {
		return nil, fmt.Errorf("format: %s needs at least two columns, anchor and positive (found %s)", SentenceTransformers, list(columns))
	}
	return &rowKeys{needs: columns}, nil
}

// parseColumns reads a row of sentence-transformers: the columns of the file's first row, in that row's order, are
// anchor, positive and negatives. Every row has exactly these.
func parseColumns(line []byte, columns *rowKeys) (Pair, error) {
	texts := make([]string, len(columns.needs))
	err := columns.parse(line, func(s *scanner, key string) (err error) {
		texts[slices.Index(columns.needs, key)], err = s.nonblank(key)
		return err
	})
	if err != nil {
		return Pair{}, err
	}
	if keys, err := topKeys(line); err != nil || len(keys) > len(columns.needs) {
		return Pair{}, fmt.Errorf("found the columns %s; those of the first row are allowed: %s", list(keys), list(columns.needs))
	}
	p := Pair{Query: texts[0], Positives: texts[1:2], Negatives: texts[2:]}
	return p, p.check(columns.needs[1], "a text is allowed")
}
