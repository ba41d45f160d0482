package identity

import (
	"slices"
	"testing"
)

func TestDifferences(t *testing.T) {
	tests := []struct {
		name, before, now string
		want              []Difference
	}{
		{"none", `{"a":1}`, `{"a":1}`, nil},
		{"empty", ``, ``, nil},
		{"large numbers", `{"a":9007199254740993}`, `{"a":9007199254740992}`, []Difference{{"a", "9007199254740993", "9007199254740992"}}},
		{"gone", `{"a":{"b":true}}`, `{}`, []Difference{{"a.b", "true", ""}}},
		{"new", `{}`, `{"a":[{"b":"x"}]}`, []Difference{{"a[0].b", "", `"x"`}}},
		{"null", `{"a":null}`, `{"a":"x"}`, []Difference{{"a", "null", `"x"`}}},
		{
			"a seed, and what follows from it",
			`{"trainer":{"seed":1},"order":{"Seed":1,"seed":1},"data_digest":"d"}`, `{"trainer":{"seed":2},"order":{"Seed":1,"seed":2},"data_digest":"e"}`,
			[]Difference{{"trainer.seed", "1", "2"}},
		},
		{"data alone", `{"trainer":{"seed":1},"data_digest":"d"}`, `{"trainer":{"seed":1},"data_digest":"e"}`, []Difference{{"data_digest", `"d"`, `"e"`}}},
		{"data beside a rate", `{"trainer":{"rate":1},"data_digest":"d"}`, `{"trainer":{"rate":2},"data_digest":"e"}`, []Difference{{"data_digest", `"d"`, `"e"`}, {"trainer.rate", "1", "2"}}},
		{"a source", `{"data":[{"path":"a"}],"data_digest":"d"}`, `{"data":[{"path":"b"}],"data_digest":"e"}`, []Difference{{"data[0].path", `"a"`, `"b"`}}},
	}
	for _, tt := range tests {
		got, err := Differences([]byte(tt.before), []byte(tt.now))
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: Differences() = %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
	if _, err := Differences([]byte(`{`), nil); err == nil {
		t.Error("Differences() of half a document is no error")
	}
}

func FuzzDifferences(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}]}`), []byte(`{"a":1}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if got, err := Differences(a, a); err == nil && len(got) > 0 {
			t.Errorf("Differences(x, x) = %q", got)
		}
		_, _ = Differences(a, b)
	})
}
