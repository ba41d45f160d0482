package pack_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/counterpoint-ml/counterpoint/coordinator/pack"
)

type inner struct {
	A int32
	B string
}

type value struct {
	Flag   bool
	Int    int64
	Small  int8
	Uint   uint64
	F32    float32
	F64    float64
	Text   string
	Raw    []byte
	Words  []float32
	Ids    []int32
	Docs   []uint64
	Reals  []float64
	Names  []string
	Parts  []inner
	One    *inner
	None   *inner
	Scores map[string]float64
	At     time.Time
	Wait   time.Duration
}

func sample() value {
	return value{
		Flag: true, Int: -300, Small: -128, Uint: math.MaxUint64, F32: 1.5, F64: math.Inf(-1), Text: "ä",
		Raw: []byte{1, 2}, Words: []float32{0, -1}, Ids: []int32{-1, 7}, Docs: []uint64{9}, Reals: []float64{math.Pi},
		Names: []string{"", "x"}, Parts: []inner{{1, "one"}, {}}, One: &inner{2, "two"},
		Scores: map[string]float64{"r@1": 1, "ndcg@10": 0.5}, At: time.Unix(1700000000, 5).UTC(), Wait: time.Second,
	}
}

func TestRoundTrip(t *testing.T) {
	for name, want := range map[string]value{"full": sample(), "zero": {}, "empty not nil": {Raw: []byte{}, Parts: []inner{}, Scores: map[string]float64{}}} {
		t.Run(name, func(t *testing.T) {
			var got value
			if err := pack.Unmarshal(pack.Marshal(want), &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("round trip (-want +got):\n%s", d)
			}
		})
	}
}

func TestNaNTravels(t *testing.T) {
	var got value
	if err := pack.Unmarshal(pack.Marshal(value{F32: float32(math.NaN()), F64: math.NaN(), Words: []float32{float32(math.NaN())}}), &got); err != nil {
		t.Fatal(err)
	}
	if !math.IsNaN(got.F64) || got.F32 == got.F32 || got.Words[0] == got.Words[0] {
		t.Errorf("NaN became %v, %v, %v", got.F32, got.F64, got.Words)
	}
}

// The bytes are a contract between versions: a change here is a change of the protocol and of the log.
func TestGoldenBytes(t *testing.T) {
	type small struct {
		A int
		B string
		C []inner
	}
	got := hex.EncodeToString(pack.Marshal(small{1, "one", []inner{{1, "t"}}}))
	if g := "0a" + "02" + "036f6e65" + "02" + "03" + "02" + "0174"; got != g {
		t.Errorf("Marshal = %s, want %s", got, g)
	}
}

func TestAppendedFields(t *testing.T) {
	type old struct {
		A int
		P []inner
	}
	type grownInner struct {
		A int32
		B string
		C []string
	}
	type grown struct {
		A int
		P []grownInner
		N string
	}
	var forward old
	if err := pack.Unmarshal(pack.Marshal(grown{1, []grownInner{{2, "b", []string{"c"}}}, "new"}), &forward); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(old{1, []inner{{2, "b"}}}, forward); d != "" {
		t.Errorf("an old reader of new bytes (-want +got):\n%s", d)
	}
	backward := grown{N: "stale"}
	if err := pack.Unmarshal(pack.Marshal(old{1, []inner{{2, "b"}}}), &backward); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(grown{A: 1, P: []grownInner{{A: 2, B: "b"}}}, backward); d != "" {
		t.Errorf("a new reader of old bytes (-want +got):\n%s", d)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	good := pack.Marshal(sample())
	for name, b := range map[string][]byte{
		"empty":       {},
		"cut":         good[:len(good)-1],
		"longer":      append(bytes.Clone(good), 0),
		"huge length": {0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		t.Run(name, func(t *testing.T) {
			var v value
			if err := pack.Unmarshal(b, &v); !errors.Is(err, pack.ErrMalformed) {
				t.Errorf("Unmarshal = %v, want ErrMalformed", err)
			}
		})
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(pack.Marshal(sample()))
	f.Add(pack.Marshal(value{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v value
		if pack.Unmarshal(b, &v) != nil {
			return
		}
		once := pack.Marshal(v)
		var w value
		if err := pack.Unmarshal(once, &w); err != nil {
			t.Fatalf("own bytes refused: %v", err)
		}
		if d := cmp.Diff(v, w, cmpopts.EquateNaNs()); d != "" {
			t.Fatalf("read, written, read (-first +second):\n%s", d)
		}
		if !bytes.Equal(once, pack.Marshal(w)) {
			t.Fatal("equal values have different bytes")
		}
	})
}

func BenchmarkWords(b *testing.B) {
	v := value{Words: make([]float32, 1<<18)}
	b.SetBytes(4 << 18)
	for b.Loop() {
		var w value
		if err := pack.Unmarshal(pack.Marshal(v), &w); err != nil {
			b.Fatal(err)
		}
	}
}
