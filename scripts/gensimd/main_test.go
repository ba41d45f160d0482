package main

import "testing"

// The committed assembly is what the generator writes.
func TestCommittedFilesAreCurrent(t *testing.T) {
	t.Chdir("../..")
	if err := run(true); err != nil {
		t.Error(err)
	}
}
