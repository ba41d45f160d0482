package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGeneratedFilesAreCurrent(t *testing.T) {
	dir := filepath.Join("..", "..", "trainer", "engine", "cpu", "gemm")
	want := files()
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if string(got) != text {
			t.Errorf("%s differs from what genasm writes; run: go generate ./trainer/engine/cpu/gemm", name)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "gen_*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if _, ok := want[filepath.Base(path)]; !ok {
			t.Errorf("%s is not written by genasm any more", path)
		}
	}
}
