package coordinator

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints/identity"
)

// IdentityError says that a folder's run is not the one that was to be resumed.
type IdentityError struct {
	Run         string
	State       string
	Differences []string // "key: committed -> now"
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("this folder holds run %s (%s) with other settings; a run's model, data, loss, train and shard settings cannot change. "+
		"Give the changed run another name, or take these back:\n  %s", e.Run, e.State, strings.Join(e.Differences, "\n  "))
}

// DataError says that the data behind a run's settings changed.
type DataError struct{ Run, Committed, Found string }

func (e *DataError) Error() string {
	return fmt.Sprintf("the data of run %s changed: its digest was %s and is %s now; the settings are the same, so a file's content differs", e.Run, e.Committed, e.Found)
}

// differences compares two JSON documents key by key.
func differences(committed, now []byte) []string {
	all, err := identity.Differences(committed, now)
	if err != nil {
		return []string{"the settings cannot be compared: " + err.Error()}
	}
	var out []string
	for _, d := range all {
		out = append(out, fmt.Sprintf("%s: %s -> %s", d.Path, cmp.Or(d.Before, "not set"), cmp.Or(d.Now, "not set")))
	}
	return out
}
