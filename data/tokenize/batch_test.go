package tokenize

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/counterpoint-ml/counterpoint/data/golden"
)

// TestGoldenTruncatePad: every case of truncation and padding, of settings and of tokenizer.json itself.
func TestGoldenTruncatePad(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(golden.Dir(t, "tokenizers"), "synthetic", "*", "truncate-pad.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var cases []json.RawMessage
		if err := json.Unmarshal(content, &cases); err != nil || len(cases) == 0 {
			t.Fatalf("%d cases, %v", len(cases), err)
		}
		file, err := os.ReadFile(filepath.Join(filepath.Dir(path), FileName))
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, c := range cases {
			count[checkTruncatePad(t, file, c)]++
		}
		t.Logf("%s: %v", filepath.Base(filepath.Dir(path)), count)
	}
}

func checkTruncatePad(t *testing.T, file []byte, raw json.RawMessage) (kind string) {
	t.Helper()
	var c struct {
		Kind, Direction, Strategy, Side, Text, Error string
		Pair                                         *string
		Texts                                        []string
		Max                                          int `json:"max_length"`
		Length, Multiple                             *int
		IDs                                          json.RawMessage
		Plain                                        []int32         `json:"ids_no_special"`
		Types                                        []int32         `json:"type_ids"`
		PadID                                        int32           `json:"pad_id"`
		Mask                                         [][]int32       `json:"attention_mask"`
		Truncation                                   json.RawMessage `json:"truncation"`
		Padding                                      json.RawMessage `json:"padding"`
		PadMultiple                                  *int            `json:"pad_to_multiple_of"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	tok, err := Parse("file", file)
	if err != nil {
		t.Fatal(err)
	}
	var ids []int32
	var batch [][]int32
	if c.Kind == "truncate" || c.Kind == "truncate-pair" {
		if c.Error == "" {
			err = json.Unmarshal(c.IDs, &ids)
		}
	} else {
		err = json.Unmarshal(c.IDs, &batch)
	}
	if err != nil {
		t.Fatal(err)
	}
	cut := &Truncation{Max: c.Max, Left: c.Direction == "left", Strategy: map[string]string{"only_first": OnlyFirst, "only_second": OnlySecond}[c.Strategy]}
	switch c.Kind {
	case "truncate":
		for plain, want := range map[bool][]int32{false: ids, true: c.Plain} {
			got, err := Batch{Truncation: cut, Plain: plain}.Encode(tok, []string{c.Text})
			if err != nil || !slices.Equal(got[0].IDs, want) {
				t.Errorf("%s: plain %t: %v, %v, want %v", raw, plain, got, err, want)
			}
		}
	case "truncate-pair":
		got, err := Batch{Truncation: cut}.EncodePairs(tok, [][2]string{{c.Text, *c.Pair}})
		switch {
		case c.Error != "" && err == nil:
			t.Errorf("%s: %v, want an error", raw, got)
		case c.Error == "" && (err != nil || !slices.Equal(got[0].IDs, ids) || !slices.Equal(got[0].Types, c.Types)):
			t.Errorf("%s: %v, %v", raw, got, err)
		}
	case "pad", "file":
		b := Batch{Padding: &Padding{Left: c.Side == "left", ID: c.PadID}}
		if c.Length != nil {
			b.Padding.Length = *c.Length
		}
		if c.PadMultiple != nil {
			b.Padding.Multiple = *c.PadMultiple
		}
		if c.Kind == "file" {
			var all map[string]json.RawMessage
			if err := json.Unmarshal(file, &all); err != nil {
				t.Fatal(err)
			}
			all["truncation"], all["padding"] = c.Truncation, c.Padding
			content, err := json.Marshal(all)
			if err != nil {
				t.Fatal(err)
			}
			if tok, err = Parse("file", content); err != nil {
				t.Fatal(err)
			}
			b = tok.Batch()
		}
		got, err := b.Encode(tok, c.Texts)
		if err != nil || len(got) != len(batch) {
			t.Fatalf("%s: %d encodings, %v", raw, len(got), err)
		}
		for i := range got {
			if !slices.Equal(got[i].IDs, batch[i]) || c.Mask != nil && !slices.Equal(got[i].Mask, c.Mask[i]) {
				t.Errorf("%s: text %d: %v, want %v", raw, i, got[i], batch[i])
			}
		}
	default:
		t.Errorf("kind %q is not known", c.Kind)
	}
	return c.Kind
}

// TestBatchParallel: a batch is the same on one core as on several.
func TestBatchParallel(t *testing.T) {
	tok := openSynthetic(t, "bytelevel")
	var texts []string
	for i := range 500 {
		texts = append(texts, string(rune('a'+i%26))+" text 中文 "+string(rune(0x4e00+i)))
	}
	encode := func(cores int) []Encoding {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		out, err := Batch{Padding: &Padding{Multiple: 8}}.Encode(tok, texts)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if d := cmp.Diff(encode(1), encode(4)); d != "" {
		t.Errorf("a batch on 1 and on 4 cores: %s", d)
	}
}

func TestTruncationRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"max_length":-1}`:                           "truncation: max_length: -1",
		`{}`:                                          "truncation: max_length is missing",
		`{"max_length":"x"}`:                          "truncation: ",
		`{"max_length":3,"direction":"up"}`:           `truncation: direction: "up"; Left and Right`,
		`{"max_length":3,"strategy":"DoNot"}`:         `truncation: strategy: "DoNot"; LongestFirst`,
		`{"max_length":3,"stride":3}`:                 "truncation: stride: 3",
		`"padding":{"strategy":"Longest"}`:            `padding: strategy: "Longest"; "BatchLongest"`,
		`"padding":{"strategy":{"Fixed":-3}}`:         "padding: length -3",
		`"padding":{"strategy":{"Fixed":3000000000}}`: "padding: length 3000000000",
	} {
		section := `"truncation":` + text
		if text[0] == '"' {
			section = text
		}
		_, err := Parse("f.json", []byte(`{`+section+`,"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`))
		if want = "tokenizer f.json: " + want; err == nil || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("Parse(%s) = %v, want %s...", section, err, want)
		}
	}
}
