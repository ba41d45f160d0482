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
