package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// journal is a machine that keeps its entries.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) Apply(entry []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, string(entry))
	switch string(entry) {
	case "refused":
		return errRefused
	case "halt":
		return fmt.Errorf("an entry of the future: %w", ErrHalt)
	case "panic":
		panic("a mistake")
	}
	return nil
}

var errRefused = errors.New("refused")

type capture []string

func (c capture) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, strings.Join(c, "\n"))
	return int64(n), err
}

func (j *journal) Snapshot() io.WriterTo {
	j.mu.Lock()
	defer j.mu.Unlock()
	return capture(j.entries[:len(j.entries):len(j.entries)])
}

func (j *journal) Restore(r io.Reader) error {
	b, err := io.ReadAll(r)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = nil
	if len(b) > 0 { // a snapshot may be of no entry
		j.entries = strings.Split(string(b), "\n")
	}
	return err
}

func openOf(t testing.TB, dir string, j *journal) *Node {
	t.Helper()
	n, err := Open(Options{Dir: dir, Name: "a", FailureTimeout: time.Second, Log: slog.New(slog.DiscardHandler)}, j)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func lead(t testing.TB, n *Node) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	term, _, err := n.Lead(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return term
}

func TestEntriesSurvive(t *testing.T) {
	dir := t.TempDir()
	var want []string
	terms := map[uint64]bool{}
	for life := range 3 {
		j := &journal{}
		n := openOf(t, dir, j)
		began := time.Now()
		term := lead(t, n)
		t.Logf("life %d leads term %d after %v", life, term, time.Since(began))
		if terms[term] {
			t.Errorf("term %d led twice", term)
		}
		terms[term] = true
		if got := fmt.Sprint(j.entries); got != fmt.Sprint(want) {
			t.Fatalf("life %d begins with %v, want %v", life, got, want)
		}
		for i := range 3 {
			entry := fmt.Sprintf("%d.%d", life, i)
			if err := n.Propose([]byte(entry)); err != nil {
				t.Fatal(err)
			}
			want = append(want, entry)
		}
		if life == 1 {
			if err := n.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Propose([]byte("refused")); !errors.Is(err, errRefused) {
			t.Errorf("Propose = %v, want what the machine said", err)
		}
		want = append(want, "refused")
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFolderHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	n := openOf(t, dir, &journal{})
	_, err := Open(Options{Dir: dir, Name: "b", FailureTimeout: time.Second, Log: slog.New(slog.DiscardHandler)}, &journal{})
	var owned *OwnedError
	if !errors.As(err, &owned) || owned.Owner.PID != os.Getpid() || owned.Owner.Started.IsZero() {
		t.Errorf("a second Open = %v, want an OwnedError that names process %d", err, os.Getpid())
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openOf(t, dir, &journal{}).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	if err := (&adapter{m: &failing{}}).Restore(io.NopCloser(bytes.NewReader(nil))); err == nil {
		t.Error("Restore swallowed the machine's error")
	}
}

type failing struct{ journal }

func (*failing) Restore(io.Reader) error { return errRefused }

func BenchmarkPropose(b *testing.B) {
	n := openOf(b, b.TempDir(), &journal{})
	defer n.Close()
	lead(b, n)
	entry := make([]byte, 512)
	for i := 0; b.Loop(); i++ {
		binary.LittleEndian.PutUint64(entry, uint64(i))
		if err := n.Propose(entry); err != nil {
			b.Fatal(err)
		}
	}
}

// A caller that gave its term up, for example because an entry was not taken in time, leads again: nothing was lost.
func TestLeadAgainWithoutALoss(t *testing.T) {
	n := openOf(t, t.TempDir(), &journal{})
	defer n.Close()
	if first, second := lead(t, n), lead(t, n); first != second {
		t.Errorf("terms %d and %d, want the same", first, second)
	}
}
