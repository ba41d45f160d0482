package encode

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Line is one text of an input file.
type Line struct {
	ID   json.RawMessage // as it is written; nil = none
	Text string
}

// maxLine bounds the memory that a line can take.
const maxLine = 64 << 20

// lines reads JSONL: each line a string, or an object with text (and title, put before it, as in BEIR) and perhaps id
// or _id. Blank lines are passed over.
type lines struct {
	name string
	in   *bufio.Reader
	at   int // line number
	sum  hash.Hash
}

func newLines(name string, in io.Reader) *lines {
	return &lines{name: name, in: bufio.NewReaderSize(in, 1<<16), sum: sha256.New()}
}

// digest identifies the lines read so far.
func (l *lines) digest() string { return hex.EncodeToString(l.sum.Sum(nil)) }

// next returns io.EOF after the last line. A line that ends because reading failed is none.
func (l *lines) next() (Line, error) {
	for {
		raw, err := l.read()
		if err != nil && (!errors.Is(err, io.EOF) || len(raw) == 0) {
			if errors.Is(err, io.EOF) {
				return Line{}, io.EOF
			}
			return Line{}, fmt.Errorf("%s:%d: %w", l.name, l.at, err)
		}
		if raw = bytes.TrimSpace(raw); len(raw) == 0 {
			continue
		}
		l.sum.Write(raw)
		l.sum.Write([]byte{'\n'})
		line, err := parseLine(raw)
		if err != nil {
			return Line{}, fmt.Errorf("%s:%d: %w", l.name, l.at, err)
		}
		return line, nil
	}
}

// read returns the next line of the file, the last one with io.EOF.
func (l *lines) read() ([]byte, error) {
	l.at++
	var whole []byte
	for {
		part, err := l.in.ReadSlice('\n')
		if whole = append(whole, part...); !errors.Is(err, bufio.ErrBufferFull) {
			return whole, err
		}
		if len(whole) > maxLine {
			return nil, fmt.Errorf("the line is longer than %d MiB", maxLine>>20)
		}
	}
}

func parseLine(raw []byte) (Line, error) {
	var line Line
	if raw[0] == '"' {
		return line, json.Unmarshal(raw, &line.Text)
	}
	var object struct {
		Text  *string
		Title string
		ID    json.RawMessage `json:"id"`
		Other json.RawMessage `json:"_id"`
	}
	if raw[0] != '{' {
		return line, fmt.Errorf("%.40q is neither a JSON string nor an object with text", raw)
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return line, err
	}
	if object.Text == nil {
		return line, fmt.Errorf("%.60q has no key text", raw)
	}
	if line.ID = object.ID; line.ID == nil {
		line.ID = object.Other
	}
	if line.ID != nil && (line.ID[0] == '{' || line.ID[0] == '[') {
		return line, fmt.Errorf("the id %.40s is neither a string nor a number", line.ID)
	}
	if line.Text = *object.Text; object.Title != "" {
		line.Text = strings.TrimSpace(object.Title + " " + line.Text)
	}
	return line, nil
}
