package coordinator

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/counterpoint-ml/counterpoint/coordinator/wire"
)

// What a coordinator kept is told again after its next start: all runs' events by id, each once, torn lines left out.
func TestHistory(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	line := func(id int, run string) string { return fmt.Sprintf(`{"id":%d,"kind":"step","run":%q}`+"\n", id, run) }
	var h history
	if err := h.load(
		put("r", line(1, "r")+`{"kind":"step","run":"r"}`+"\n"+line(4, "r")+`{"id":9,"ki`),
		put("s", line(2, "s")+line(3, "s")), filepath.Join(dir, "none"),
	); err != nil {
		t.Fatal(err)
	}
	h.add(wire.RunEvent{ID: 3, Run: "s"}) // heard twice
	h.add(wire.RunEvent{ID: 5, Run: "r"})
	for _, c := range []struct {
		q    wire.EventsRequest
		want string
	}{
		{wire.EventsRequest{}, "r1 s2 s3 r4 r5 "},
		{wire.EventsRequest{Run: "s"}, "s2 s3 "},
		{wire.EventsRequest{Run: "r", After: 1}, "r4 r5 "},
		{wire.EventsRequest{After: 1, Limit: 2}, "s2 s3 "},
	} {
		got := ""
		for _, e := range h.after(&c.q).Events {
			got += fmt.Sprintf("%s%d ", e.Run, e.ID)
		}
		if got != c.want {
			t.Errorf("after(%+v) = %q, want %q", c.q, got, c.want)
		}
	}
	for id := int64(6); id < keptEvents+10; id++ {
		h.add(wire.RunEvent{ID: id, Run: "r"})
	}
	if r := h.after(&wire.EventsRequest{After: 2}); r.Gone != 9 || r.Events[0].ID != 10 || len(r.Events) != keptEvents {
		t.Errorf("of %d events %d are kept, from %d, gone %d; want %d from 10, gone 9", keptEvents+9, len(r.Events), r.Events[0].ID, r.Gone, keptEvents)
	}
}
