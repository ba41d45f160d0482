package wire

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/counterpoint-ml/counterpoint/data"
)

// messages is one of each, with every code; a message without a code fails TestEveryMessage.
func messages() []any {
	return []any{
		&Hello{Worker: "w-1", ProtocolMin: 1, ProtocolMax: 1, Numerics: "k1/avx2"},
		&Welcome{Run: &RunInfo{ID: "r", Spec: []byte("{}")}},
		&Beat{Worker: "w-1", State: -1, Missing: []Range{{1, 2}}},
		&Pulse{Known: true, Round: &Round{Run: "r"}},
		&Round{
			Run: "r", Revision: 1<<32 | 7, Kind: Train, Leases: []Lease{{Range{0, 3}, "w-1", 2}},
			Closing: &Closing{Number: 1, Cover: []Cover{{"w-1", []Range{{0, 3}}}}, Owners: []Owner{{"w-1", 0, 9}}},
			Commit:  &Commit{Step: 3, Loss: math.Inf(1), Maxima: []float32{1}}, State: Running,
		},
		&ShardRequest{Run: "r", Shards: []int{0, 5}},
		&ShardReply{Shards: []data.Shard{{Index: 2, Texts: []data.Text{{Slot: 1, Row: 9, Role: data.Negative, Doc: 3, Tokens: []int32{5, 6}}}}}},
		&HeaderRequest{Run: "r"},
		&HeaderReply{Header: data.Header{Step: 1, Queries: 2, Docs: []uint64{1, 2}, Tokens: []int32{9}}},
		&Rows{Run: "r", Width: 2, Slots: []int32{0}, Values: []float32{0.5, -0.5}},
		&RowsRequest{Run: "r", Shards: []int{1}, Reply: "w-2"},
		&Report{Run: "r", Maxima: []float32{1}, NonFinite: true},
		&Verdict{Accepted: true},
		&Applied{Run: "r", Gradient: "aa", Parameters: "bb"},
		&Scored{Run: "r", Metrics: map[string]float64{"ndcg@10": 0.5, "r@1": 1}},
		&Saved{Run: "r", Err: "no space left on device"},
		&ChunkRequest{Run: "r", Stream: "sum", Hi: 9},
		&Chunk{Payload: []byte{1, 2, 3}},
		&FileRequest{Run: "r", Name: "model/config.json"},
		&FileReply{Size: 3, Payload: []byte{1, 2, 3}},
		&Log{Source: "w-1", Text: "hello"},
		&Leave{Worker: "w-1"},
		&Control{Action: "pause"},
		&ControlReply{State: Paused},
		&StatusRequest{},
		&StatusReply{JSON: []byte("{}")},
		&SubmitRequest{Key: "k", File: []byte("name: x"), Priority: -1},
		&SubmitReply{Run: "r", Existing: true},
		&RunsRequest{},
		&RunsReply{JSON: []byte("[]")},
		&LogsRequest{Lines: 10},
		&LogsReply{Lines: []Log{{Source: "w-1", Text: "hello"}}},
		&RunEvent{ID: 1<<32 | 5, Run: "r", JSON: []byte("{}")},
		&EventsRequest{Run: "r", After: 7, Limit: 10},
		&EventsReply{Events: []RunEvent{{ID: 8, Run: "r", JSON: []byte("{}")}}, More: true, Gone: 3},
	}
}

func TestEveryMessage(t *testing.T) {
	seen := map[byte]bool{}
	for _, m := range messages() {
		t.Run(reflect.TypeOf(m).Elem().Name(), func(t *testing.T) {
			if c := code(m); c == 0 || seen[c] {
				t.Fatalf("code %d is taken or none", c)
			} else {
				seen[c] = true
			}
			b, err := Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			got := reflect.New(reflect.TypeOf(m).Elem()).Interface()
			if err := Decode(b, got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m, got); d != "" {
				t.Errorf("round trip (-want +got):\n%s", d)
			}
		})
	}
}

// A change of these bytes is a change of the protocol: raise ProtocolMax.
func TestGoldenBytes(t *testing.T) {
	for _, c := range []struct {
		message any
		want    string
	}{
		{&Verdict{Accepted: true}, "4350010d" + "020100"},
		{&Leave{Worker: "w-1", Reason: "term"}, "43500116" + "0903772d31047465726d"},
		{&RowsRequest{Run: "r", Round: 3, Shards: []int{1, 2}, Reply: "w"}, "4350010b" + "080172060302040177"},
		{&Rows{Run: "r", Round: 1, Shard: 2, Worker: "w", Width: 1, Slots: []int32{4}, Values: []float32{1}, Digest: "d"}, "4350010a" + "14017202040177" + "0002" + "0204000000" + "020000803f" + "0164"},
	} {
		b, err := Encode(c.message)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := hex.DecodeString(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := hex.EncodeToString(b), hex.EncodeToString(seal(plain)); got != want {
			t.Errorf("Encode(%+v) = %s, want %s", c.message, got, want)
		}
	}
}

// What a build of protocol 1 wrote is read, and every field that it knew has its value: a rolling upgrade has both. The
// other way round, what such a build knows is still written in version 1.
func TestPreviousProtocol(t *testing.T) {
	text, err := os.ReadFile("testdata/protocol1.txt")
	if err != nil {
		t.Fatal(err)
	}
	types, read := map[string]reflect.Type{}, map[string]bool{}
	for _, m := range messages() {
		types[reflect.TypeOf(m).Elem().Name()] = reflect.TypeOf(m).Elem()
	}
	for line := range strings.Lines(string(text)) {
		part := strings.Split(strings.TrimSpace(line), "\t")
		name := part[0]
		b, err := hex.DecodeString(part[1])
		if err != nil || types[name] == nil {
			t.Fatalf("%s: %v", name, err)
		}
		m := reflect.New(types[name]).Interface()
		if err := Decode(b, m); err != nil {
			t.Errorf("%s of protocol 1: %v", name, err)
			continue
		}
		known, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := errors.Join(json.Unmarshal(known, &got), json.Unmarshal([]byte(part[2]), &want)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, common(got, want)); d != "" {
			t.Errorf("%s of protocol 1 (-was +read):\n%s", name, d)
		}
		again, err := Encode(m)
		if err != nil || again[2] != 1 {
			t.Errorf("%s is written in version %d, %v; want 1: builds before this one read it", name, again[2], err)
		}
		read[name] = true
	}
	for name, of := range types {
		if c := code(reflect.New(of).Interface()); since(c) == 1 && !read[name] {
			t.Errorf("%s has no bytes in testdata/protocol1.txt", name)
		}
	}
}

// common returns what of got is in want: the keys of objects that want has too, all the way down.
func common(got, want any) any {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return got
		}
		out := map[string]any{}
		for key := range w {
			if v, ok := g[key]; ok {
				out[key] = common(v, w[key])
			}
		}
		return out
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return got
		}
		out := make([]any, len(g))
		for i := range g {
			out[i] = common(g[i], w[i])
		}
		return out
	}
	return got
}

func TestDecodeRefuses(t *testing.T) {
	good, _ := Encode(&Verdict{Accepted: true})
	other, _ := Encode(&Leave{Worker: "w-1"})
	version := append([]byte{}, good...)
	version[2] = ProtocolMax + 1
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"empty":         {nil, ErrMalformed},
		"not ours":      {[]byte("GET / HTTP/1.1"), ErrMalformed},
		"other message": {other, ErrMalformed},
		"cut":           {good[:len(good)-1], ErrMalformed},
		"later version": {version, ErrProtocol},
		"too large":     {make([]byte, MaxMessage+1), ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Decode(c.bytes, &Verdict{}); !errors.Is(err, c.want) {
				t.Errorf("Decode = %v, want %v", err, c.want)
			}
		})
	}
	if _, err := Encode(&Chunk{Payload: make([]byte, MaxMessage)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Encode of a large chunk = %v, want ErrTooLarge", err)
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{"w-1_A": true, "": false, "a.b": false, "a b": false, "*": false, ">": false, "ä": false, strings.Repeat("x", 65): false} {
		if err := CheckName("worker", name); (err == nil) != ok {
			t.Errorf("CheckName(%q) = %v, want ok %v", name, err, ok)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages() {
		b, _ := Encode(m)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range messages() {
			got := reflect.New(reflect.TypeOf(m).Elem()).Interface()
			if Decode(b, got) != nil {
				continue
			}
			if _, err := Encode(got); err != nil {
				t.Fatalf("%T was read and cannot be written: %v", m, err)
			}
		}
	})
}
