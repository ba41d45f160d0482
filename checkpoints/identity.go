package checkpoints

import (
	"fmt"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints/identity"
)

// IdentityError says that a checkpoint is of a run with other settings that decide its numbers.
type IdentityError struct {
	Name        string // of the checkpoint
	Have, Want  string // digests
	Differences []string
}

// Error lists the differences, one a line.
func (e *IdentityError) Error() string {
	var out strings.Builder
	fmt.Fprintf(&out, "checkpoint %s is of another run: its identity is %.12s, this run's %.12s", e.Name, e.Have, e.Want)
	for _, d := range e.Differences {
		out.WriteString("\n  " + d)
	}
	return out.String()
}

// Differences compares two JSON specs field by field: "train.seed: 42 in the checkpoint, 43 now". Paths are sorted; what
// only follows from another difference is left out.
func Differences(have, want []byte) []string {
	all, err := identity.Differences(have, want)
	if err != nil {
		return []string{"the settings cannot be compared: " + err.Error()}
	}
	var out []string
	for _, d := range all {
		was, is := d.Before+" in the checkpoint", d.Now+" now"
		if d.Before == "" {
			was = "not set in the checkpoint"
		}
		if d.Now == "" {
			is = "not set now"
		}
		out = append(out, d.Path+": "+was+", "+is)
	}
	return out
}
