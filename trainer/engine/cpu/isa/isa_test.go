package isa

import (
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		word string
		best Level
		want Level
		err  string
	}{
		{"", AVX512, AVX512, ""},
		{"", Portable, Portable, ""},
		{"avx2", AVX512, AVX2, ""},
		{"portable", AVX2, Portable, ""},
		{"avx512", AVX512, AVX512, ""},
		{"avx512", AVX2, AVX2, "allowed: portable, avx2"},
		{"AVX2", AVX512, AVX512, `"AVX2": not a level; allowed: portable, avx2, avx512`},
		{"sse", AVX512, AVX512, Env},
	} {
		got, err := choose(c.word, c.best)
		if got != c.want {
			t.Errorf("choose(%q, %v) = %v, want %v", c.word, c.best, got, c.want)
		}
		if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("choose(%q, %v) error = %v, want one with %q", c.word, c.best, err, c.err)
		}
	}
}

func TestUseRestores(t *testing.T) {
	before := Active()
	for _, level := range Available() {
		t.Run(level.String(), func(t *testing.T) {
			Use(t, level)
			if got := Active(); got != level {
				t.Errorf("Active() = %v, want %v", got, level)
			}
		})
		if got := Active(); got != before {
			t.Fatalf("Active() after the test = %v, want %v", got, before)
		}
	}
}
