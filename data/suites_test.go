package data

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
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
		if sheet := s.Sheet(); strings.Contains(sheet.Rule(), "own id") != identical {
			t.Errorf("Rule() with identical ids ignored %t = %q", identical, sheet.Rule())
		}
		digests = append(digests, s.Digest())
	}
	if digests[0] == digests[1] {
		t.Errorf("the digest does not tell that identical ids are ignored")
	}
}

// A text of a suite whose embedding is no number is named by file and line.
func TestSuitesWhere(t *testing.T) {
	dir := suiteDir(t, corpusText, queriesText, qrelsText)
	s, err := OpenSuite(SuiteConfig{Path: dir, Name: "dev", MaxLength: 16}, words{}, t.TempDir(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	suites := Suites{s}
	for slot, want := range map[int32]string{1: "queries.jsonl:3", 2: "corpus.jsonl:1", 4: "corpus.jsonl:3"} { // the second query is not judged
		for i := range s.Shards() {
			shard, err := s.Shard(i)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range shard.Texts {
				if x.Slot != slot {
					continue
				}
				if got := suites.Where(0, x.Source, x.Row); got != "dev "+filepath.Join(dir, want) {
					t.Errorf("Where of slot %d = %q, want %s of dev", slot, got, want)
				}
			}
		}
	}
	for _, strange := range []string{suites.Where(1, 0, 0), suites.Where(0, 7, 0), suites.Where(0, 0, 99)} {
		if strange == "" {
			t.Errorf("Where of what is not there is empty")
		}
	}
}
