package coordinator

import (
	"slices"
	"testing"
)

func TestDifferencesOfLargeSeeds(t *testing.T) {
	got := differences([]byte(`{"seed":18446744073709551614}`), []byte(`{"seed":18446744073709551615}`))
	if want := []string{"seed: 18446744073709551614 -> 18446744073709551615"}; !slices.Equal(got, want) {
		t.Errorf("differences = %q, want %q", got, want)
	}
}
