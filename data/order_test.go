package data

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// testRow is a row whose texts are numbers.
type testRow struct {
	query               uint64
	positives, negative []uint64
}

// setOf makes a set of sources without files.
func setOf(t interface{ Fatal(...any) }, order Order, weights []float64, sources ...[]testRow) *Set {
	s := &Set{order: order, log: slog.New(slog.DiscardHandler), epochs: map[epochKey]*epoch{}}
	var configs []place
	for i, rows := range sources {
		x := &index{first: []uint32{0}}
		for j, r := range rows {
			x.offsets, x.sizes = append(x.offsets, 0), append(x.sizes, 0)
			x.lines = append(x.lines, uint32(j+1))
			x.positives = append(x.positives, uint16(len(r.positives)))
			x.hashes = append(x.hashes, finish(r.query<<1|1))
			for _, d := range slices.Concat(r.positives, r.negative) {
				x.hashes = append(x.hashes, finish(d<<1))
			}
			x.first = append(x.first, uint32(len(x.hashes)))
		}
		x.lengths = make([]uint32, len(x.hashes))
		for j := range x.lengths {
			x.lengths[j] = uint32(1 + x.hashes[j]%97)
		}
		s.sources = append(s.sources, &source{path: fmt.Sprint("source", i), index: x})
		c := Source{}
		if weights != nil {
			c.Weight = weights[i]
		}
		configs = append(configs, place{Source: c, entry: i})
	}
	if err := s.plan(configs); err != nil {
		t.Fatal(err)
	}
	return s
}

// distinct makes n rows that share nothing.
func distinct(n int) []testRow {
	rows := make([]testRow, n)
	for i := range rows {
		u := uint64(i)
		rows[i] = testRow{query: u, positives: []uint64{3 * u}, negative: []uint64{3*u + 1, 3*u + 2}}
	}
	return rows
}

// drawRows makes rows whose texts come from a pool, so that some are equal.
func drawRows(t *rapid.T, label string, least int) []testRow {
	n := rapid.IntRange(least, least+60).Draw(t, label+" rows")
	pool := rapid.IntRange(1, 3*n).Draw(t, label+" texts")
	text := func(what string) uint64 { return uint64(rapid.IntRange(0, pool).Draw(t, what)) }
	rows := make([]testRow, n)
	for i := range rows {
		rows[i] = testRow{query: uint64(i)}
		if rapid.Bool().Draw(t, "shared query") {
			rows[i].query = text("query")
		}
		for range rapid.IntRange(1, 3).Draw(t, "positives") {
			rows[i].positives = append(rows[i].positives, text("positive"))
		}
		for range rapid.IntRange(0, 3).Draw(t, "negatives") {
			rows[i].negative = append(rows[i].negative, text("negative"))
		}
	}
	return rows
}

// Every row of a source occurs exactly once in each of its epochs (at most once where the remainder is dropped,
// and then exactly as many as whole groups hold), whatever the batch, groups, weights, number of sources and
// duplicates; the epochs of a source come one after another.
func TestEverySampleOncePerEpoch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		groups := rapid.IntRange(1, 4).Draw(t, "groups")
		group := rapid.IntRange(1, 12).Draw(t, "group")
		order := Order{
			Batch: groups * group, Group: group, HardNegatives: rapid.IntRange(0, 3).Draw(t, "hard negatives"), MaxLength: 64,
			Remainder: rapid.SampledFrom([]string{"wrap", "drop"}).Draw(t, "remainder"), Seed: rapid.Uint64().Draw(t, "seed"),
		}
		var sources [][]testRow
		var weights []float64
		total := 0
		for i := range rapid.IntRange(1, 3).Draw(t, "sources") {
			sources = append(sources, drawRows(t, fmt.Sprint("source", i), group))
			weights = append(weights, rapid.Float64Range(0.1, 10).Draw(t, "weight"))
			total += len(sources[i])
		}
		if total < order.Batch {
			t.Skip("batch larger than the data")
		}
		s := setOf(t, order, weights, sources...)
		seen := map[epochKey]map[int64]int{}
		at := make([]int64, len(sources)) // position in each source's stream
		for step := range int64(3*total/order.Batch + 3) {
			draws := s.draws(step)
			if len(draws) != order.Batch {
				t.Fatalf("draws(%d) = %d rows, want %d", step, len(draws), order.Batch)
			}
			for j, d := range draws {
				if first := draws[j-j%group]; d.Source != first.Source {
					t.Fatalf("draws(%d): a group of sources %d and %d", step, first.Source, d.Source)
				}
				if want := at[d.Source] / int64(s.used(int(d.Source))); d.Epoch != want {
					t.Fatalf("draws(%d): source %d is in epoch %d, want %d", step, d.Source, d.Epoch, want)
				}
				at[d.Source]++
				k := epochKey{int(d.Source), d.Epoch}
				if seen[k] == nil {
					seen[k] = map[int64]int{}
				}
				if seen[k][d.Row]++; seen[k][d.Row] > 1 {
					t.Fatalf("row %d of source %d twice in epoch %d", d.Row, d.Source, d.Epoch)
				}
			}
		}
		for k, rows := range seen {
			whole := at[k.source] >= (k.epoch+1)*int64(s.used(k.source))
			if whole && len(rows) != s.used(k.source) {
				t.Fatalf("epoch %d of source %d had %d rows, want %d", k.epoch, k.source, len(rows), s.used(k.source))
			}
			for r := range rows {
				if r < 0 || r >= int64(len(sources[k.source])) {
					t.Fatalf("row %d of %d", r, len(sources[k.source]))
				}
			}
		}
	})
}

// Any step is the same asked for alone, by another process, and after other steps.
func TestDrawsArePure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		group := rapid.IntRange(1, 8).Draw(t, "group")
		order := Order{Batch: group * rapid.IntRange(1, 3).Draw(t, "groups"), Group: group, HardNegatives: 1, MaxLength: 64, Seed: rapid.Uint64().Draw(t, "seed")}
		a, b := drawRows(t, "a", 24), drawRows(t, "b", 24)
		weights := []float64{1, rapid.Float64Range(0.01, 100).Draw(t, "weight")}
		one := setOf(t, order, weights, a, b)
		var all [][]Draw
		for step := range int64(40) {
			all = append(all, one.draws(step))
		}
		for range 5 {
			step := rapid.Int64Range(0, 39).Draw(t, "step")
			if got := setOf(t, order, weights, a, b).draws(step); !slices.Equal(got, all[step]) {
				t.Fatalf("draws(%d) alone = %v, want %v", step, got, all[step])
			}
			if got := one.draws(step); !slices.Equal(got, all[step]) {
				t.Fatalf("draws(%d) again = %v, want %v", step, got, all[step])
			}
		}
	})
}

// clashes counts the rows of a batch that share a query or document with an earlier row of it.
func clashes(s *Set, draws []Draw) int {
	n := 0
	seen := map[uint64]bool{}
	for _, d := range draws {
		keys := s.keyer(epochKey{int(d.Source), d.Epoch})(nil, uint32(d.Row))
		clash := false
		for _, k := range keys {
			clash = clash || seen[k]
		}
		for _, k := range keys {
			seen[k] = true
		}
		if clash {
			n++
		}
	}
	return n
}

// A document that occurs no more often than an epoch has batches never occurs twice in one of them.
func TestNoDuplicateDocumentInABatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batch := rapid.IntRange(2, 16).Draw(t, "batch")
		whole := rapid.IntRange(2, 12).Draw(t, "batches")
		n := batch * whole
		remainder := rapid.SampledFrom([]string{"wrap", "drop"}).Draw(t, "remainder")
		if remainder == "drop" {
			n += rapid.IntRange(0, batch-1).Draw(t, "rest")
		}
		rows := make([]testRow, n)
		doc, left := uint64(0), 0
		for i := range rows {
			if left == 0 {
				doc++
				left = rapid.IntRange(1, whole).Draw(t, "copies")
			}
			left--
			rows[i] = testRow{query: uint64(i), positives: []uint64{doc}}
		}
		s := setOf(t, Order{Batch: batch, MaxLength: 64, Remainder: remainder, Seed: rapid.Uint64().Draw(t, "seed")}, nil, rows)
		for step := range int64(3 * whole) {
			if c := clashes(s, s.draws(step)); c > 0 {
				t.Fatalf("batch %d of %d rows has %d rows with a document that it has already", step, batch, c)
			}
		}
	})
}

// The same across the border of two epochs, with negatives, where every text is rare.
func TestNoDuplicateAcrossEpochs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batch := rapid.IntRange(2, 24).Draw(t, "batch")
		n := batch*rapid.IntRange(6, 12).Draw(t, "batches") + rapid.IntRange(0, batch-1).Draw(t, "rest")
		rows := make([]testRow, n)
		for i := range rows { // each document is the positive of one row and the negative of another
			u := uint64(i)
			rows[i] = testRow{query: u / 2, positives: []uint64{u}, negative: []uint64{(u + 5) % uint64(n)}}
		}
		s := setOf(t, Order{Batch: batch, HardNegatives: 1, MaxLength: 64, Seed: rapid.Uint64().Draw(t, "seed")}, nil, rows)
		for step := range int64(3 * n / batch) {
			if c := clashes(s, s.draws(step)); c > 0 {
				t.Fatalf("batch %d of %d rows has %d rows with a text that it has already", step, batch, c)
			}
		}
	})
}

// Where a duplicate is left in a batch, no exchange with another batch of the epoch removes it.
func TestDuplicatesOnlyWithoutAChoice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		batch := rapid.IntRange(2, 6).Draw(t, "batch")
		rows := drawRows(t, "source", 2*batch)
		rows = rows[:len(rows)/batch*batch]
		s := setOf(t, Order{Batch: batch, HardNegatives: 1, MaxLength: 64, Seed: rapid.Uint64().Draw(t, "seed")}, nil, rows)
		var all []Draw
		steps := len(rows) / batch
		for step := range int64(steps) {
			all = append(all, s.draws(step)...)
		}
		window := func(p int) []Draw { return all[p/batch*batch : (p/batch+1)*batch] }
		for p := range all {
			last := all[p/batch*batch : p+1]
			if clashes(s, last) == clashes(s, last[:len(last)-1]) {
				continue
			}
			for q := range all {
				if q/batch == p/batch {
					continue
				}
				all[p], all[q] = all[q], all[p]
				better := clashes(s, window(p)) == 0 && clashes(s, window(q)) == 0
				all[p], all[q] = all[q], all[p]
				if better {
					t.Fatalf("position %d clashes in its batch; an exchange with position %d leaves both batches without any", p, q)
				}
			}
		}
	})
}

// Each source gets its share of the draws, to within one draw a source in every period.
func TestScheduleShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Float64Range(0.001, 1000), 1, 8).Draw(t, "weights")
		s, err := newSchedule(rapid.Uint64().Draw(t, "seed"), weights)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, w := range weights {
			sum += w
		}
		const periods = 500
		counts := s.before(periods * period)
		for i, c := range counts {
			want := weights[i] / sum * periods * period
			if math.Abs(float64(c)-want) > 12 { // the golden rotation's discrepancy grows with the logarithm of periods
				t.Fatalf("source %d was drawn %d times of %d, want %.1f", i, c, periods*period, want)
			}
		}
		d := rapid.Int64Range(0, 5*period).Draw(t, "draw")
		want := make([]int64, len(weights))
		for e := range d {
			want[s.at(e)]++
		}
		if got := s.before(d); !slices.Equal(got, want) {
			t.Fatalf("before(%d) = %v, want %v", d, got, want)
		}
		i := rapid.IntRange(0, len(weights)-1).Draw(t, "source")
		if counts[i] > 5 {
			c, n := rapid.Int64Range(0, min(counts[i]-3, 2000)).Draw(t, "draw of the source"), int64(0)
			s.walk(i, c, func(d int64) bool {
				if s.at(d) != i || s.before(d)[i] != c+n {
					t.Fatalf("walk(%d, %d) gives draw %d, of source %d with %d before it", i, c, d, s.at(d), s.before(d)[i])
				}
				n++
				return n < 3
			})
		}
	})
}

// A fixed point: the order of rows may never change between versions without a new data digest.
func TestOrderIsFixed(t *testing.T) {
	s := setOf(t, Order{Batch: 8, Group: 4, HardNegatives: 1, MaxLength: 64, Seed: 42}, []float64{1, 2}, distinct(50), distinct(70))
	h := uint64(0)
	for step := range int64(100) {
		for _, d := range s.draws(step) {
			h = mix(h, uint64(d.Source), uint64(d.Row), uint64(d.Epoch))
		}
	}
	if want := uint64(0x13f89837e1e55eb4); h != want {
		t.Errorf("100 batches sum to %#x, want %#x", h, want)
	}
}

func BenchmarkBatch(b *testing.B) {
	rows := distinct(100_000)
	s := setOf(b, Order{Batch: 512, HardNegatives: 1, MaxLength: 512, Seed: 1}, nil, rows)
	if _, err := s.Batch(0); err != nil {
		b.Fatal(err)
	}
	step := int64(0)
	for b.Loop() {
		step = (step + 1) % 190
		if _, err := s.Batch(step); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBatchMixed(b *testing.B) {
	s := setOf(b, Order{Batch: 512, Group: 4, HardNegatives: 1, MaxLength: 512, Seed: 1}, nil, distinct(100_000), distinct(50_000), distinct(20_000))
	step := int64(1_000_000)
	for b.Loop() {
		if _, err := s.Batch(step); err != nil {
			b.Fatal(err)
		}
		step++
	}
}

func BenchmarkEpoch(b *testing.B) {
	s := setOf(b, Order{Batch: 512, HardNegatives: 1, MaxLength: 512, Seed: 1}, nil, distinct(100_000))
	for e := int64(0); b.Loop(); e++ {
		s.epoch(epochKey{0, e})
	}
}
