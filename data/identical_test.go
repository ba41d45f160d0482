package data

import (
	"maps"
	"slices"
	"testing"
)

// A query that bears a document's id does not find it, where that is asked for; the suite is then another one.
func TestIdentical(t *testing.T) {
	dir := suiteDir(t, corpusText, `{"_id":"d1","text":"first document"}`+"\n"+`{"_id":"q","text":"third"}`+"\n", "query-id\tcorpus-id\tscore\nd1\td3\t1\nq\td3\t1\n")
	var digests []string
	for _, identical := range []bool{false, true} {
		s, err := OpenSuite(SuiteConfig{Path: dir, MaxLength: 16, Identical: identical}, words{}, t.TempDir(), quiet)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		want := map[string][]string{}
		if identical {
			want["d1"] = []string{"d1"}
		}
		if got := s.Sheet().Excluded; !maps.EqualFunc(got, want, slices.Equal[[]string]) {
			t.Errorf("excluded with identical ids ignored %t = %v, want %v", identical, got, want)
		}
		digests = append(digests, s.Digest())
	}
	if digests[0] == digests[1] {
		t.Errorf("the digest does not tell that identical ids are ignored")
	}
}
