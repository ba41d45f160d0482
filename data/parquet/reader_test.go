package parquet

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func rows(t *testing.T, r *Reader) []string {
	t.Helper()
	defer r.Close()
	var out []string
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(row))
	}
}

// TestForeign: files that Arrow wrote (testdata/make.py), and their rows as Arrow reads them.
func TestForeign(t *testing.T) {
	files, err := filepath.Glob("testdata/arrow-*.parquet")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	text, err := os.ReadFile("testdata/arrow.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r, err := Open(file)
			if err != nil {
				t.Fatal(err)
			}
			if n := r.Rows(); n != int64(len(want)) {
				t.Errorf("Rows() = %d, want %d", n, len(want))
			}
			got := rows(t, r)
			if len(got) != len(want) {
				t.Fatalf("%d rows, want %d", len(got), len(want))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("row %d = %s, want %s", i, got[i], want[i])
				}
			}
		})
	}
}

// written makes a table of two row groups.
func written(t testing.TB, codec string, dictionary bool) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, []Column{
		{"query", Text, codec, dictionary}, {"positives", Texts, codec, dictionary}, {"vector", Floats, codec, false}, {"n", Int, codec, dictionary},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range [][]any{
		{"first", []string{"a", "b"}, []float32{1, 2.5}, int64(7)},
		{nil, nil, []float32{}, int64(-1)},
		{"\"é\"\n", []string{}, []float32{3}, int64(1) << 60},
	} {
		if err := w.Write(row...); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWritten(t *testing.T) {
	want := []string{
		`{"query":"first","positives":["a","b"],"vector":[1,2.5],"n":7}`,
		`{"query":null,"positives":null,"vector":[],"n":-1}`,
		`{"query":"\"é\"\n","positives":[],"vector":[3],"n":1152921504606846976}`,
	}
	for _, codec := range Codecs {
		for _, dictionary := range []bool{false, true} {
			file := written(t, codec, dictionary)
			r, err := NewReader("x.parquet", bytes.NewReader(file), int64(len(file)))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(rows(t, r), "\n"); got != strings.Join(want, "\n") {
				t.Errorf("codec %q, dictionary %t: rows = %s, want %s", codec, dictionary, got, want)
			}
		}
	}
}

func TestCodecRefused(t *testing.T) {
	_, err := Open("testdata/lz4.parquet")
	if want := `testdata/lz4.parquet: row group 0: column "query": compressed with LZ4_RAW, which is not supported`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Open = %v, want %s", err, want)
	}
}

func TestWriterRefuses(t *testing.T) {
	w, err := NewWriter(io.Discard, []Column{{Name: "a", Kind: Int}})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range [][]any{{}, {nil}, {"text"}, {int64(1), int64(2)}} {
		if err := w.Write(row...); err == nil {
			t.Errorf("Write(%v) = no error", row)
		}
	}
}

// TestDamaged: whatever byte is changed or wherever the file is cut, there are rows or an error that names the file.
func TestDamaged(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	whole := written(t, "snappy", true)
	refused, named := 0, 0
	for i := range 3000 {
		file := bytes.Clone(whole)
		if i%10 == 0 {
			file = file[:random.IntN(len(file))]
		} else {
			file[random.IntN(len(file))] ^= byte(1 + random.IntN(255))
		}
		if err := readAll(file); err != nil {
			refused++
			if !strings.HasPrefix(err.Error(), "x.parquet: ") {
				t.Fatalf("error %q does not name the file", err)
			}
			if strings.Contains(err.Error(), "row group") && strings.Contains(err.Error(), "column") {
				named++
			}
		}
	}
	t.Logf("%d of 3000 refused, %d of them with row group and column", refused, named)
	if refused < 1000 || named == 0 {
		t.Errorf("%d of 3000 damaged files are refused, %d with row group and column", refused, named)
	}
}

func readAll(file []byte) error {
	r, err := NewReader("x.parquet", bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return err
	}
	defer r.Close()
	for range 100_000 {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// FuzzReader: any bytes give rows or an error, never a panic.
func FuzzReader(f *testing.F) {
	for _, codec := range Codecs {
		f.Add(written(f, codec, codec != ""))
	}
	files, err := filepath.Glob("testdata/arrow-*.parquet")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		file, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if err := readAll(file); err != nil && !strings.HasPrefix(err.Error(), "x.parquet: ") {
			t.Errorf("error %q does not name the file", err)
		}
	})
}
