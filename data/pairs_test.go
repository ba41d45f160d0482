package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

// fileCase is an entry of the golden manifest of files.
type fileCase struct {
	File      string            `json:"file"`
	Expect    string            `json:"expect"`
	Why       string            `json:"why"`
	Line      int               `json:"line"`
	Key       string            `json:"key"`
	Rows      int               `json:"rows"`
	Queries   []json.RawMessage `json:"queries"`
	Texts     []string          `json:"texts"`
	Sums      []string          `json:"sha256_of_texts"`
	Documents int               `json:"documents"`
}

func readManifest(t *testing.T, dir string) []fileCase {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []fileCase
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("the manifest has no cases")
	}
	return cases
}

// readAll reads every pair, stopping at the first error.
func readAll(path string) ([]Pair, error) {
	r, err := OpenPairs(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var pairs []Pair
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			if len(pairs) == 0 {
				return nil, errNoRows(path, 0)
			}
			return pairs, nil
		}
		if err != nil {
			return pairs, err
		}
		pairs = append(pairs, p)
	}
}

func TestPairsGolden(t *testing.T) {
	dir := filepath.Join(golden.Dir(t, "files"), "jsonl")
	for _, c := range readManifest(t, dir) {
		if strings.HasPrefix(c.File, "beir/") {
			continue
		}
		t.Run(c.File, func(t *testing.T) {
			path := filepath.Join(dir, c.File)
			pairs, err := readAll(path)
			checkGolden(t, c, path, err)
			if err == nil && c.Sums != nil {
				checkPairs(t, c, pairs)
			}
		})
	}
}

// checkGolden compares the error of reading a file with what the manifest allows.
func checkGolden(t *testing.T, c fileCase, path string, err error) {
	t.Helper()
	switch c.Expect {
	case "ok":
		if err != nil {
			t.Errorf("read %s (%s) = %v, want no error", c.File, c.Why, err)
		}
		return
	case "error", "reported":
		if err == nil {
			t.Fatalf("read %s (%s) = no error, want one", c.File, c.Why)
		}
	case "either":
	default:
		t.Fatalf("%s: unknown expectation %q", c.File, c.Expect)
	}
	if err == nil {
		return
	}
	if c.Line > 0 {
		if want := fmt.Sprintf("%s:%d:", path, c.Line); !strings.Contains(err.Error(), want) {
			t.Errorf("read %s (%s) = %q, want %q in it", c.File, c.Why, err, want)
		}
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.Key) {
		t.Errorf("read %s (%s) = %q, want the file and %q named", c.File, c.Why, err, c.Key)
	}
	t.Log(strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", ""))
}

func checkPairs(t *testing.T, c fileCase, pairs []Pair) {
	t.Helper()
	if len(pairs) != c.Rows {
		t.Fatalf("read %s = %d rows, want %d", c.File, len(pairs), c.Rows)
	}
	for i, p := range pairs {
		texts := append(append([]string{p.Query}, p.Positives...), p.Negatives...)
		sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
		if got := hex.EncodeToString(sum[:])[:16]; got != c.Sums[i] {
			t.Errorf("read %s: row %d: texts sum to %s, want %s", c.File, i, got, c.Sums[i])
		}
		var want string
		if json.Unmarshal(c.Queries[i], &want) == nil && p.Query != want {
			t.Errorf("read %s: row %d: query %q, want %q", c.File, i, p.Query, want)
		}
	}
}

func TestReaderMessages(t *testing.T) {
	good := `{"query":"q","positive":"p"}` + "\n"
	for _, c := range []struct{ name, in, want string }{
		{"negative for negatives", good + `{"query":"q","positive":"p","negative":["n"]}`, `f:2: key "negatives": missing; did you mean "negatives" where "negative" is written?`},
		{"pos", `{"query":"q","positives":["p"]}`, `f:1: key "positive": missing; did you mean "positive" where "positives" is written?`},
		{"neither", `{"anchor":"q","text":"p"}`, `f:1: key "query": missing; a row needs query and positive, and may have task and negatives (found anchor, text)`},
		{"empty list", `{"query":"q","positive":[]}`, `f:1: key "positive": an empty list; a text or a list of texts is allowed`},
		{"blank in list", `{"query":"q","positive":["a"," "]}`, `f:1:30: key "positive": found an empty text`},
		{"number in list", `{"query":"q","positive":["a",7]}`, `f:1:30: key "positive": found a number; a string is allowed`},
		{"twice", `{"query":"q","query":"r","positive":"p"}`, `f:1:14: the key "query" occurs twice`},
		{"after the end", `{"query":"q","positive":"p"} x`, `f:1:30: expected the end of the line after the object, found 'x'`},
		{"bad escape", `{"query":"\x","positive":"p"}`, `f:1:11: a backslash is followed by none of "\/bfnrtu`},
		{"lone surrogate", `{"query":"\udc00","positive":"p"}`, `f:1:11: \udc00 is half of a surrogate pair without the other half`},
		{"leading zero", `{"query":"q","positive":"p","n":01}`, `f:1:34: expected ',' or '}' after the value of "n", found '1'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewReader("f", strings.NewReader(c.in))
			for err == nil {
				_, err = r.Next()
			}
			if err.Error() != c.want {
				t.Errorf("read %q = %q, want %q", c.in, err, c.want)
			}
		})
	}
}

// A faulty line does not stop the reader from going on with the next one.
func TestReaderGoesOnAfterALine(t *testing.T) {
	in := "{\"query\":\"a\",\"positive\":\"p\"}\n{]\n\n{\"query\":\"b\",\"positive\":\"p\"}\n"
	r, err := NewReader("f", strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		var line *LineError
		switch {
		case errors.As(err, &line):
			got = append(got, fmt.Sprint("fault ", line.Line))
		case err != nil:
			t.Fatal(err)
		default:
			got = append(got, fmt.Sprint(p.Query, " ", r.Line()))
		}
	}
	if want := "a 1,fault 2,b 4"; strings.Join(got, ",") != want {
		t.Errorf("read = %v, want %s", got, want)
	}
}

// FuzzParsePair holds the scanner against encoding/json: what it accepts is JSON with the same texts, and what
// encoding/json refuses it refuses.
func FuzzParsePair(f *testing.F) {
	for _, seed := range []string{
		`{"task":"t","query":"q","positive":"p","negatives":["n"]}`,
		`{"query":"\u00e9\ud83d\ude00\n","positive":["a","b"],"negatives":null,"x":{"y":[1e5,-0.5,true]}}`,
		`{"query":"q","postive":"p"}`, `{"query":"q"`, `[`, `{"query":"\ud800","positive":"p"}`, "{\"query\":\"\x00\"}", `{}`, `{"a":1,}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		p, err := parsePair(line)
		if err != nil {
			_ = lineError("f", 1, err).Error()
			return
		}
		var want struct {
			Task, Query string
			Positive    json.RawMessage
			Negatives   json.RawMessage
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(line, &members); err != nil {
			t.Fatalf("parsePair(%q) accepts what encoding/json refuses: %v", line, err)
		}
		for key, to := range map[string]*string{"task": &want.Task, "query": &want.Query} {
			if raw, ok := members[key]; ok {
				if err := json.Unmarshal(raw, to); err != nil {
					t.Fatalf("parsePair(%q): %v", line, err)
				}
			}
		}
		if p.Task != want.Task || p.Query != want.Query {
			t.Fatalf("parsePair(%q) = %q %q, want %q %q", line, p.Task, p.Query, want.Task, want.Query)
		}
		for key, got := range map[string][]string{"positive": p.Positives, "negatives": p.Negatives} {
			if texts := oneOrMore(t, members[key]); strings.Join(texts, "\x00") != strings.Join(got, "\x00") || len(texts) != len(got) {
				t.Fatalf("parsePair(%q): %s = %q, want %q", line, key, got, texts)
			}
		}
	})
}

func oneOrMore(t *testing.T, raw json.RawMessage) []string {
	if len(raw) == 0 {
		return nil
	}
	var one string
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &one); err != nil {
			t.Fatal(err)
		}
		return []string{one}
	}
	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		t.Fatal(err)
	}
	return many
}

// FuzzReader: no bytes, gzip or not, make the reader panic or loop.
func FuzzReader(f *testing.F) {
	f.Add([]byte("{\"query\":\"a\",\"positive\":\"p\"}\r\n\n"))
	f.Add([]byte("\xef\xbb\xbf{}"))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := NewReader("f", bytes.NewReader(file))
		for n := 0; err == nil && n <= len(file)*2000; n++ {
			_, err = r.Next()
			var line *LineError
			if errors.As(err, &line) {
				err = nil
			}
		}
		if err == nil {
			t.Fatalf("reading %q does not end", file)
		}
	})
}
