package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/counterpoint-ml/counterpoint/coordinator/fsm"
	"github.com/counterpoint-ml/counterpoint/data"
)

// spaces is a tokenizer with a token for every word.
type spaces struct{}

func (spaces) Encode(dst []int32, text string) []int32 {
	for w := range strings.FieldsSeq(text) {
		h := fnv.New32a()
		h.Write([]byte(w))
		dst = append(dst, int32(h.Sum32()%50000))
	}
	return dst
}

func (spaces) Digest() string { return "spaces" }

// testSet is two sources of 23 and 17 rows in batches of 5: an epoch ends within a batch.
func testSet(t testing.TB, seed uint64) *data.Set {
	t.Helper()
	var sources []data.Source
	for i, n := range []int{23, 17} {
		var b strings.Builder
		for row := range n {
			fmt.Fprintf(&b, `{"query":"query %d of %d%s","positive":"document %d %d%s","negatives":["not %d %d"]}`+"\n", row, i, strings.Repeat(" q", row%5), row, i, strings.Repeat(" d", row%7), row, i)
		}
		path := filepath.Join(t.TempDir(), fmt.Sprintf("s%d.jsonl", i))
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		sources = append(sources, data.Source{Path: path})
	}
	s, err := data.Open(sources, data.Order{Batch: 5, MaxLength: 16, HardNegatives: 1, ShardTokens: 24, Seed: seed}, spaces{}, t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// book writes a log as a leader does.
type book struct {
	t       testing.TB
	set     *data.Set
	machine *fsm.Machine
	entries [][]byte
	round   int64
	// change, if not nil, may change a command before it is written.
	change func(c fsm.Command)
}

const steps = 24

func (b *book) write(commands ...fsm.Command) {
	b.t.Helper()
	if b.change != nil {
		for _, c := range commands {
			b.change(c)
		}
	}
	n := uint64(len(b.entries) + 1)
	e := fsm.NewEntry(1, n, time.Unix(1_700_000_000+int64(n), 0), commands).Marshal()
	if err := b.machine.Apply(e); err != nil && b.change == nil { // what follows a change may be rejected
		b.t.Fatal(err)
	}
	b.entries = append(b.entries, e)
}

// start writes the beginning: a run with the members a and b.
func start(t testing.TB, set *data.Set) *book {
	b := &book{t: t, set: set, machine: fsm.NewMachine()}
	b.write(&fsm.Submit{ID: "r", Name: "run", Identity: "id", Data: set.Digest(), Steps: steps})
	b.write(&fsm.Join{Worker: "a", Name: "a"}, &fsm.Join{Worker: "b", Name: "b"}, &fsm.Assign{Worker: "a", Run: "r"}, &fsm.Assign{Worker: "b", Run: "r"})
	b.write(&fsm.Promote{Worker: "a"}, &fsm.Promote{Worker: "b"}, &fsm.Fix{Run: "r", Numerics: "n", Parameters: "p0", Size: 10})
	return b
}

// step writes a step: half of the shards each, and now and then what a fleet goes through.
func (b *book) step(s int64) {
	batch, err := b.set.Batch(s)
	if err != nil {
		b.t.Fatal(err)
	}
	n := len(batch.Header.Tokens)
	half := n / 2
	b.round++
	b.write(&fsm.Open{Run: "r", Number: b.round, Kind: fsm.Train, Step: s, Shards: n, Batch: batch.Digest(), Leases: []fsm.Lease{{Lo: 0, Hi: half, Worker: "a"}, {Lo: half, Hi: n, Worker: "b"}}})
	tokens := int64(0)
	for _, k := range batch.Header.Tokens {
		tokens += int64(k)
	}
	cover := []fsm.Cover{{Worker: "a", Shards: []fsm.Range{{Lo: 0, Hi: half}}}, {Worker: "b", Shards: []fsm.Range{{Lo: half, Hi: n}}}}
	attempt := int32(0)
	if s%5 == 1 {
		b.write(&fsm.Retry{Run: "r", Round: b.round, Attempt: 1, Maxima: []float32{2}})
		attempt = 1
	}
	number := int32(1)
	closing := func(cover []fsm.Cover) {
		b.write(&fsm.Close{Run: "r", Round: b.round, Closing: fsm.Closing{Number: number, Cover: cover, Owners: []fsm.Owner{{Worker: "a", Hi: 10}}, Maxima: []float32{1}, Tokens: tokens}})
		number++
	}
	closing(cover)
	if s%4 == 2 { // b is late: what it had goes to a
		b.write(&fsm.Grant{Run: "r", Round: b.round, Leases: []fsm.Lease{{Lo: half, Hi: n, Worker: "a"}}})
		closing([]fsm.Cover{{Worker: "a", Shards: []fsm.Range{{Lo: 0, Hi: n}}}})
	}
	if s%6 == 3 { // somebody had finished
		b.write(&fsm.Close{Run: "r", Round: b.round, Closing: fsm.Closing{Number: number, Complete: true, Owners: []fsm.Owner{{Worker: "a", Hi: 10}}, Maxima: []float32{1}, Tokens: tokens}})
	}
	b.write(&fsm.Commit{Run: "r", Round: b.round, Step: s, Attempt: attempt, Gradient: fmt.Sprint("g", s), Parameters: fmt.Sprint("p", s+1)})
}

// whole writes a whole run, with a restart from the beginning in the middle.
func whole(t testing.TB, set *data.Set) *book {
	b := start(t, set)
	for s := range int64(9) {
		b.step(s)
	}
	b.write(&fsm.Restart{Run: "r"})
	b.write(&fsm.Promote{Worker: "a"}, &fsm.Promote{Worker: "b"})
	for s := range int64(steps) {
		b.step(s)
	}
	b.write(&fsm.SetState{Run: "r", State: fsm.Finished})
	return b
}

// prove proves the entries from index first+1 on, after a snapshot of the first ones.
func prove(t testing.TB, b *book, first int, marks map[uint64]string) (*Proof, error) {
	t.Helper()
	m := fsm.NewMachine()
	if first > 0 {
		before := fsm.NewMachine()
		for _, e := range b.entries[:first] {
			if err := before.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
		var snapshot bytes.Buffer
		if _, err := before.State().WriteTo(&snapshot); err != nil {
			t.Fatal(err)
		}
		if err := m.Restore(&snapshot); err != nil {
			t.Fatal(err)
		}
	}
	p, err := New(Log{m, marks}, "r", b.set)
	if err != nil {
		return p.proof, err
	}
	for i, e := range b.entries[first:] {
		if err := p.Entry(uint64(first+i+1), e); err != nil {
			return p.proof, err
		}
	}
	return p.Finish()
}

func TestWholeLogIsProven(t *testing.T) {
	b := whole(t, testSet(t, 1))
	proof, err := prove(t, b, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if proof.Steps != steps || proof.Logged != steps || proof.Served != steps || proof.Samples != 5*steps || proof.Replays != 9 || proof.Restarts != 1 || len(proof.Notes) > 0 {
		t.Errorf("proof %+v, want %d steps of 5 samples, 9 replays after 1 restart, and no notes", proof, steps)
	}
	if proof.Retries != 7 || proof.Withdrawn != 8 || proof.Releases == 0 {
		t.Errorf("%d attempts repeated, %d closings withdrawn, %d shards leased again; want 7, 8 and some", proof.Retries, proof.Withdrawn, proof.Releases)
	}
	for _, s := range proof.Sources {
		if got := s.Epochs*s.Used + s.Partial; s.Epochs < 1 || got < s.Used {
			t.Errorf("source %+v, want at least one whole epoch", s)
		}
	}
	if sum := proof.Sources[0].Epochs*23 + proof.Sources[0].Partial + proof.Sources[1].Epochs*17 + proof.Sources[1].Partial; sum != proof.Samples {
		t.Errorf("sources have %d samples, want the proof's %d", sum, proof.Samples)
	}
}

// Wherever a snapshot has cut the log, what is left is proven, and what is not is said.
func TestLogAfterASnapshot(t *testing.T) {
	b := whole(t, testSet(t, 2))
	all, err := prove(t, b, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for first := 1; first <= len(b.entries); first++ {
		proof, err := prove(t, b, first, nil)
		if err != nil {
			t.Fatalf("after entry %d: %v", first, err)
		}
		if proof.Samples != all.Samples || proof.Steps != all.Steps || proof.Served != all.Served {
			t.Fatalf("after entry %d: %d samples of %d steps, want %d of %d", first, proof.Samples, proof.Steps, all.Samples, all.Steps)
		}
		if recorded := proof.Steps - proof.Logged; (recorded > 0) != (len(proof.Notes) > 0) {
			t.Fatalf("after entry %d: %d steps are records only, and the notes are %q", first, recorded, proof.Notes)
		}
	}
}

// Each violation that the state machine lets pass, since it does not know the data, is found and named.
func TestViolations(t *testing.T) {
	set := testSet(t, 3)
	for name, c := range map[string]struct {
		change func(c fsm.Command)
		want   []string
	}{
		"another batch is served": {func(c fsm.Command) {
			if o, ok := c.(*fsm.Open); ok && o.Step == 7 {
				o.Batch = strings.Repeat("0", 32)
			}
		}, []string{"step 8", "the data give"}},
		"a shard too many": {func(c fsm.Command) {
			if o, ok := c.(*fsm.Open); ok && o.Step == 7 {
				o.Batch = ""
				o.Shards++
				o.Leases[1].Hi++
			}
		}, []string{"step 8", "shards, the batch has"}},
		"tokens of another batch": {func(c fsm.Command) {
			if k, ok := c.(*fsm.Close); ok && k.Round == 8 {
				k.Closing.Tokens++
			}
		}, []string{"step 8", "tokens"}},
		"a sum of one who never had the lease": {func(c fsm.Command) {
			if k, ok := c.(*fsm.Close); ok && k.Round == 8 {
				k.Closing.Cover[0].Worker, k.Closing.Cover[1].Worker = "b", "a"
			}
		}, []string{"step 8", "shard 0", "s1.jsonl", "which never held its lease"}},
		"other data": {func(c fsm.Command) {
			if s, ok := c.(*fsm.Submit); ok {
				s.Data = "else"
			}
		}, []string{"data digest"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &book{t: t, set: set, machine: fsm.NewMachine(), change: c.change}
			b.write(&fsm.Submit{ID: "r", Name: "run", Identity: "id", Data: set.Digest(), Steps: steps})
			b.write(&fsm.Join{Worker: "a", Name: "a"}, &fsm.Join{Worker: "b", Name: "b"}, &fsm.Assign{Worker: "a", Run: "r"}, &fsm.Assign{Worker: "b", Run: "r"})
			b.write(&fsm.Promote{Worker: "a"}, &fsm.Promote{Worker: "b"}, &fsm.Fix{Run: "r", Numerics: "n", Parameters: "p0", Size: 10})
			for s := range int64(8) {
				b.step(s)
			}
			_, err := prove(t, b, 0, nil)
			var v *Violation
			if !errors.As(err, &v) {
				t.Fatalf("proof ended with %v, want a violation", err)
			}
			for _, part := range c.want {
				if part == "s1.jsonl" && !strings.Contains(err.Error(), ".jsonl") || part != "s1.jsonl" && !strings.Contains(err.Error(), part) {
					t.Errorf("violation %q lacks %q", err, part)
				}
			}
		})
	}
}

// The rules are written here once more: what the state machine refuses is refused here too, by itself.
func TestRulesWithoutTheMachine(t *testing.T) {
	set := testSet(t, 4)
	base := start(t, set)
	for s := range int64(3) {
		base.step(s)
	}
	batch, err := set.Batch(3)
	if err != nil {
		t.Fatal(err)
	}
	n, tokens := len(batch.Header.Tokens), int64(0)
	for _, k := range batch.Header.Tokens {
		tokens += int64(k)
	}
	open := func() *fsm.Open {
		return &fsm.Open{Run: "r", Number: 4, Kind: fsm.Train, Step: 3, Shards: n, Batch: batch.Digest(), Leases: []fsm.Lease{{Lo: 0, Hi: 1, Worker: "a"}, {Lo: 1, Hi: n, Worker: "b"}}}
	}
	closing := func() *fsm.Close {
		return &fsm.Close{Run: "r", Round: 4, Closing: fsm.Closing{Number: 1, Tokens: tokens, Cover: []fsm.Cover{{Worker: "a", Shards: []fsm.Range{{Lo: 0, Hi: 1}}}, {Worker: "b", Shards: []fsm.Range{{Lo: 1, Hi: n}}}}}}
	}
	commit := &fsm.Commit{Run: "r", Round: 4, Step: 3}
	for name, c := range map[string]struct {
		commands []fsm.Command
		want     string
	}{
		"shard counted twice": {[]fsm.Command{open(), func() fsm.Command {
			k := closing()
			k.Closing.Cover[0].Shards[0].Hi = 2
			return k
		}()}, "never held its lease"},
		"shard in two sums": {[]fsm.Command{open(), &fsm.Grant{Run: "r", Round: 4, Leases: []fsm.Lease{{Lo: 1, Hi: 2, Worker: "a"}}}, func() fsm.Command {
			k := closing()
			k.Closing.Cover[0].Shards[0].Hi = 2
			return k
		}()}, "shard 1, sample"},
		"shard left out": {[]fsm.Command{open(), func() fsm.Command {
			k := closing()
			k.Closing.Cover[1].Shards[0].Hi = n - 1
			return k
		}()}, "leaves it out"},
		"commit without closing":    {[]fsm.Command{open(), commit}, "without a closing"},
		"commit of another attempt": {[]fsm.Command{open(), closing(), &fsm.Commit{Run: "r", Round: 4, Step: 3, Attempt: 1}}, "attempt 1"},
		"gap in the leases": {[]fsm.Command{func() fsm.Command {
			o := open()
			o.Leases[1].Lo = 2
			return o
		}()}, "do not hold each"},
		"round twice":             {[]fsm.Command{func() fsm.Command { o := open(); o.Number = 3; return o }()}, "after round 3"},
		"two rounds at once":      {[]fsm.Command{open(), func() fsm.Command { o := open(); o.Number = 5; return o }()}, "in flight"},
		"complete out of nothing": {[]fsm.Command{open(), &fsm.Close{Run: "r", Round: 4, Closing: fsm.Closing{Number: 1, Complete: true}}}, "no closing before it"},
		"step left out":           {[]fsm.Command{func() fsm.Command { o := open(); return o }(), closing(), &fsm.Commit{Run: "r", Round: 4, Step: 4}}, "not in flight"},
		"replay with another result": {[]fsm.Command{&fsm.Open{Run: "r", Number: 4, Kind: fsm.Train, Step: 0, Shards: shardsOf(t, set, 0), Leases: []fsm.Lease{{Hi: shardsOf(t, set, 0), Worker: "a"}}}, func() fsm.Command {
			b0, _ := set.Batch(0)
			sum := int64(0)
			for _, k := range b0.Header.Tokens {
				sum += int64(k)
			}
			return &fsm.Close{Run: "r", Round: 4, Closing: fsm.Closing{Number: 1, Tokens: sum, Cover: []fsm.Cover{{Worker: "a", Shards: []fsm.Range{{Hi: len(b0.Header.Tokens)}}}}}}
		}(), &fsm.Commit{Run: "r", Round: 4, Step: 0, Gradient: "other", Parameters: "p1"}}, "executed again, it gave"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New(Log{Machine: fsm.NewMachine()}, "r", set)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range base.entries {
				if err := p.Entry(uint64(i+1), e); err != nil {
					t.Fatal(err)
				}
			}
			s := p.log.Machine.State()
			for _, c := range c.commands {
				if err = p.command(c, s, s, 99); err != nil {
					break
				}
			}
			var v *Violation
			if !errors.As(err, &v) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("violation %v, want one with %q", err, c.want)
			}
		})
	}
}

func shardsOf(t testing.TB, set *data.Set, s int64) int {
	b, err := set.Batch(s)
	if err != nil {
		t.Fatal(err)
	}
	return len(b.Header.Tokens)
}

// One flipped bit anywhere in any entry is found.
func TestFlippedEntry(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	b := whole(t, testSet(t, 5))
	for range 300 {
		i := random.IntN(len(b.entries))
		bit := random.IntN(8 * len(b.entries[i]))
		b.entries[i][bit/8] ^= 1 << (bit % 8)
		if _, err := prove(t, b, 0, nil); err == nil {
			t.Fatalf("seed %d: bit %d of entry %d is flipped, and nothing is found", seed, bit, i+1)
		}
		b.entries[i][bit/8] ^= 1 << (bit % 8)
	}
	if _, err := prove(t, b, 0, nil); err != nil {
		t.Fatal(err)
	}
}

// A snapshot that says something else than the entries before it is found.
func TestSnapshotOfAnotherHistory(t *testing.T) {
	b := whole(t, testSet(t, 6))
	m := fsm.NewMachine()
	marks := map[uint64]string{}
	for i, e := range b.entries {
		if err := m.Apply(e); err != nil {
			t.Fatal(err)
		}
		if i%20 == 19 {
			marks[uint64(i+1)] = m.State().Digest()
		}
	}
	if _, err := prove(t, b, 0, marks); err != nil {
		t.Fatal(err)
	}
	marks[40] = strings.Repeat("0", 64)
	if _, err := prove(t, b, 0, marks); err == nil || !strings.Contains(err.Error(), "entry 40") {
		t.Errorf("another state at entry 40 = %v, want a violation that names it", err)
	}
}

func BenchmarkProve(b *testing.B) {
	log := whole(b, testSet(b, 7))
	for b.Loop() {
		if _, err := prove(b, log, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(steps+9), "ns/step")
}
