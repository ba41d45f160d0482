package coordinator

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A line that an earlier life left unfinished does not spoil the next one.
func TestJournalAfterATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(path, []byte(`{"kind":"step"}`+"\n"+`{"kind":"st`), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		j, err := openJournal(path, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		j.add(Event{Kind: Warning})
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) != 5 || lines[1] != `{"kind":"st` || !strings.Contains(lines[2], Warning) || !strings.Contains(lines[3], Warning) || lines[4] != "" {
		t.Errorf("the file has lines %q, want the torn one alone on line 2, then two whole ones", lines)
	}
}

// A full disk is said aloud once, and the run goes on.
func TestJournalOfAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no /dev/full: ", err)
	}
	var told []Event
	j := &journal{file: full, log: slog.New(slog.DiscardHandler), tell: func(e Event) { told = append(told, e) }}
	for range 3 {
		j.add(Event{Kind: StepCommitted})
	}
	if len(told) != 4 || told[1].Kind != Warning || !strings.Contains(told[1].Reason, "no space left") {
		t.Errorf("told of %+v, want three steps and, after the first, one warning of a full disk", told)
	}
}
