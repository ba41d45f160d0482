package safetensors

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func sample() []Tensor {
	return []Tensor{
		{Name: "b", Shape: []int{3}, Values: []float32{1, float32(math.Inf(-1)), -0.5}},
		{Name: "a <&> \"é", Shape: []int{}, Values: []float32{2.5}},
		{Name: "steps", Shape: []int{2}, Integers: []int64{-1, math.MaxInt64}},
		{Name: "wide", Shape: []int{1, 2}, Wide: []float64{math.Pi, -1e300}},
		{Name: "none", Shape: []int{4, 0}},
		{Name: "half", Shape: []int{2}, DType: BF16, Raw: []byte{0x80, 0x3f, 0xc0, 0xbf}},
	}
}

func TestWriteReadsBack(t *testing.T) {
	var out bytes.Buffer
	if err := Write(&out, sample(), map[string]string{"step": "7"}); err != nil {
		t.Fatal(err)
	}
	f, err := Parse("memory", out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Metadata(); got["format"] != "pt" || got["step"] != "7" {
		t.Errorf("Metadata() = %v, want format pt and step 7", got)
	}
	for _, want := range sample() {
		info, ok := f.Info(want.Name)
		if !ok || !slices.Equal(info.Shape, want.Shape) {
			t.Errorf("Info(%q) = %v, %v, want shape %v", want.Name, info, ok, want.Shape)
		}
		switch {
		case want.Integers != nil:
			if got, err := f.Int64(nil, want.Name); err != nil || !slices.Equal(got, want.Integers) {
				t.Errorf("Int64(%q) = %v, %v, want %v", want.Name, got, err, want.Integers)
			}
		case want.Wide != nil:
			if got, err := f.Float64(nil, want.Name); err != nil || !slices.Equal(got, want.Wide) {
				t.Errorf("Float64(%q) = %v, %v, want %v", want.Name, got, err, want.Wide)
			}
			if _, err := f.Float32(nil, want.Name); err == nil {
				t.Errorf("Float32(%q) accepted -1e300", want.Name)
			}
		case want.Raw != nil:
			if got, err := f.Float32(nil, want.Name); err != nil || !slices.Equal(got, []float32{1, -1.5}) {
				t.Errorf("Float32(%q) = %v, %v, want [1 -1.5]", want.Name, got, err)
			}
		default:
			if got, err := f.Float32(nil, want.Name); err != nil || !slices.Equal(got, want.Values) {
				t.Errorf("Float32(%q) = %v, %v, want %v", want.Name, got, err, want.Values)
			}
		}
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var first bytes.Buffer
	if err := Write(&first, sample(), nil); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		tensors := sample()
		rng.Shuffle(len(tensors), func(i, j int) { tensors[i], tensors[j] = tensors[j], tensors[i] })
		var again bytes.Buffer
		if err := Write(&again, tensors, nil); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), first.Bytes()) {
			t.Fatal("another order of tensors gave other bytes")
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	tests := []struct {
		name    string
		tensors []Tensor
		want    string
	}{
		{"shape", []Tensor{{Name: "w", Shape: []int{2}, Values: []float32{1}}}, `"w"`},
		{"twice", []Tensor{{Name: "w", Shape: []int{0}}, {Name: "w", Shape: []int{0}}}, "twice"},
		{"reserved", []Tensor{{Name: "__metadata__", Shape: []int{0}}}, "reserved"},
		{"dtype", []Tensor{{Name: "w", Shape: []int{1}, DType: "F33", Raw: []byte{1}}}, "F33"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Write(&bytes.Buffer{}, tt.tensors, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Write() = %v, want an error with %s", err, tt.want)
			}
		})
	}
}

type full struct{ left int }

var errFull = errors.New("no space")

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.left {
		n := f.left
		f.left = 0
		return n, errFull
	}
	f.left -= len(p)
	return len(p), nil
}

func TestWriteReportsAFullDisk(t *testing.T) {
	big := []Tensor{{Name: "w", Shape: []int{100_000}, Values: make([]float32, 100_000)}}
	for _, size := range []int{0, 5, 100, 70_000, 399_000} {
		if err := Write(&full{size}, big, nil); !errors.Is(err, errFull) {
			t.Errorf("Write() on %d bytes of disk = %v, want %v", size, err, errFull)
		}
	}
}

// Every binary16 value is exact in float32, so widening is checked against the definition in float64.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		sign, e, m := 1.0, h>>10&31, float64(h&1023)
		if h>>15 == 1 {
			sign = -1
		}
		want := sign * math.Ldexp(1+m/1024, e-15)
		switch {
		case e == 0:
			want = sign * math.Ldexp(m/1024, -14)
		case e == 31 && m == 0:
			want = math.Inf(int(sign))
		case e == 31:
			want = math.NaN()
		}
		got := float64(half(uint16(h)))
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != math.Signbit(want) && !math.IsNaN(want) {
			t.Fatalf("half(%#04x) = %g, want %g", h, got, want)
		}
	}
}

func TestFileCutWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), SingleName)
	var out bytes.Buffer
	all := []Tensor{
		{Name: "w", Shape: []int{50_000}, Values: make([]float32, 50_000)},
		{Name: "h", Shape: []int{50_000}, DType: BF16, Raw: make([]byte, 100_000)},
	}
	if err := Write(&out, all, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	raw, err := f.Bytes("h")
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func() error{
		"Float32":    func() error { _, err := f.Float32(nil, "w"); return err },
		"Float64":    func() error { _, err := f.Float64(nil, "w"); return err },
		"Part":       func() error { return f.Part(make([]float32, 50_000), "w", 0) },
		"Part, half": func() error { return f.Part(make([]float32, 9), "h", 40_000) },
		"Halves":     func() error { return f.Halves(make([]uint16, 50_000), "h", 0) },
		"Write again": func() error {
			return Write(&hash{}, []Tensor{{Name: path, Shape: []int{50_000}, DType: BF16, Raw: raw}}, nil)
		},
	} {
		if err := read(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s of a file cut while open = %v, want an error that names it", name, err)
		}
	}
}

// hash reads what it gets, as a digest does.
type hash struct{ sum byte }

func (h *hash) Write(p []byte) (int, error) {
	for _, b := range p {
		h.sum += b
	}
	return len(p), nil
}

// Parts of a tensor, in any cut, are its values; Drop changes nothing.
func TestParts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	const n = 30_011
	raw := make([]byte, 2*n)
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	for i := 1; i < len(raw); i += 2 {
		raw[i] &^= 0x40 // no NaN
	}
	values, wide := make([]float32, n), make([]float64, n)
	for i := range values {
		values[i], wide[i] = r.Float32(), r.NormFloat64()
	}
	var out bytes.Buffer
	if err := Write(&out, []Tensor{
		{Name: "half", Shape: []int{n}, DType: F16, Raw: raw},
		{Name: "brain", Shape: []int{n}, DType: BF16, Raw: raw},
		{Name: "single", Shape: []int{n}, Values: values},
		{Name: "double", Shape: []int{n}, Wide: wide},
	}, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), SingleName)
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := OpenFolder(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	f := all.(Parts)
	for _, name := range f.Names() {
		want, err := f.Float32(nil, name)
		if err != nil {
			t.Fatal(err)
		}
		for first := 0; first < n; {
			dst := make([]float32, min(n-first, 1+r.IntN(5000)))
			if err := f.Part(dst, name, first); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(dst, want[first:][:len(dst)]) {
				t.Fatalf("Part(%s, %d, %d) differs from Float32", name, first, len(dst))
			}
			first += len(dst)
			f.Drop(name)
		}
		if err := f.Part(make([]float32, 2), name, n-1); err == nil {
			t.Errorf("Part(%s) beyond its end = nil, want an error", name)
		}
		if err := f.Part(make([]float32, 2), name, -1); err == nil {
			t.Errorf("Part(%s) before its begin = nil, want an error", name)
		}
		dst := make([]uint16, 777)
		err = f.Halves(dst, name, 101)
		if (err == nil) != (name == "brain") {
			t.Errorf("Halves(%s) = %v", name, err)
		}
		for i, h := range dst {
			if v := math.Float32frombits(uint32(h) << 16); name == "brain" && v != want[101+i] {
				t.Fatalf("Halves(%s): element %d is %v, want %v", name, 101+i, v, want[101+i])
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	var out bytes.Buffer
	if err := Write(&out, sample(), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	f.Add([]byte("\x3a\x00\x00\x00\x00\x00\x00\x00" + `{"w":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]}}  `))
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Parse("fuzz", content)
		if err != nil {
			return
		}
		total := 0
		for _, name := range file.Names() {
			b, err := file.Bytes(name)
			if err != nil {
				t.Fatal(err)
			}
			info, _ := file.Info(name)
			if info.Elements()*info.DType.Size() != len(b) {
				t.Fatalf("%q: %d elements of %s in %d bytes", name, info.Elements(), info.DType, len(b))
			}
			total += len(b)
			if _, err := file.Float32(nil, name); err != nil {
				_, _ = file.Int64(nil, name)
			}
		}
		if total > len(content) {
			t.Fatalf("%d bytes of tensors in a file of %d", total, len(content))
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":8},"weight_map":{"w":"model-00001-of-00002.safetensors"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		shards, err := parseIndex(text)
		if err != nil {
			return
		}
		for shard := range shards {
			if filepath.Join("d", shard) != "d"+string(filepath.Separator)+shard {
				t.Fatalf("shard %q leaves the folder", shard)
			}
		}
	})
}
