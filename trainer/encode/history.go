package encode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// HistoryName is the file of a checkpoint that tells of the runs before its own.
const HistoryName = "history.json"

// What a run has taken from one before it.
const (
	TookWeights   = "weights"   // all parameters were trained
	TookMerged    = "merged"    // its adapter, into the weights
	TookContinued = "continued" // its adapter, to train on
)

// Ancestor is a run that made what a later one began with.
type Ancestor struct {
	Run      string          `json:"run"`
	Took     string          `json:"took"`
	Step     int64           `json:"step"`
	Identity string          `json:"identity"`
	Settings json.RawMessage `json:"settings"` // what its identity is the digest of
}

// History returns the runs behind a checkpoint's folder and last its own, from which a run takes something; none of a
// folder that is no checkpoint of ours.
func History(dir, took string) ([]Ancestor, error) {
	r, err := ReadRun(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append(r.History, Ancestor{Run: r.Run, Took: took, Step: r.Step, Identity: r.Identity, Settings: r.Spec}), nil
}

func readHistory(dir string) ([]Ancestor, error) {
	path := filepath.Join(dir, HistoryName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Ancestor
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}
