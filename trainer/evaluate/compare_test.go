package evaluate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestCompare(t *testing.T) {
	a := map[string]float64{"q1": 0.5, "q2": 0.25, "q3": 1, "q4": 0}
	b := map[string]float64{"q1": 0.5, "q2": 0.75, "q3": 0.75, "q4": 1}
	c, err := Compare(a, b, 1)
	if err != nil {
		t.Fatal(err)
	}
	if c.Queries != 4 || c.Wins != 2 || c.Losses != 1 || c.Ties != 1 || c.Difference != 1.25/4 || c.MeanA != 1.75/4 || c.MeanB != 0.75 {
		t.Errorf("Compare = %+v", c)
	}
	if got := []string{c.Changed[0].Query, c.Changed[1].Query, c.Changed[2].Query, c.Changed[3].Query}; !slices.Equal(got, []string{"q4", "q2", "q3", "q1"}) {
		t.Errorf("Compare: changed most = %v, want q4, q2, q3, q1", got)
	}
	again, _ := Compare(a, b, 1)
	if again.Low != c.Low || again.High != c.High {
		t.Errorf("Compare: interval %v to %v, then %v to %v", c.Low, c.High, again.Low, again.High)
	}
	back, _ := Compare(b, a, 1)
	if back.Difference != -c.Difference || back.Wins != c.Losses || back.Losses != c.Wins {
		t.Errorf("Compare the other way = %+v, want the opposite of %+v", back, c)
	}
	delete(b, "q1")
	if _, err := Compare(a, b, 1); err == nil {
		t.Error("Compare of other queries = no error, want one")
	}
	if _, err := Compare(nil, nil, 1); err == nil {
		t.Error("Compare of nothing = no error, want one")
	}
	a["q1"], b["q1"] = math.NaN(), 1
	if _, err := Compare(a, b, 1); err == nil {
		t.Error("Compare of NaN = no error, want one")
	}
}

// The interval has the width of the normal approximation where that is good, and holds the true difference about as
// often as it says.
func TestCompareInterval(t *testing.T) {
	const seed, queries, trials = 11, 200, 25
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	held := 0
	for trial := range trials {
		a, b := map[string]float64{}, map[string]float64{}
		var sum, square float64
		for q := range queries {
			id := fmt.Sprint(q)
			d := 0.1 + r.NormFloat64()
			a[id], b[id] = r.Float64(), 0
			b[id] = a[id] + d
			sum += d
			square += d * d
		}
		c, err := Compare(a, b, uint64(trial))
		if err != nil {
			t.Fatal(err)
		}
		if c.Low <= 0.1 && 0.1 <= c.High {
			held++
		}
		mean := sum / queries
		want := 2 * 1.96 * math.Sqrt((square/queries-mean*mean)/queries)
		if got := c.High - c.Low; math.Abs(got-want) > 0.1*want {
			t.Errorf("trial %d: interval of width %v, normal approximation %v", trial, got, want)
		}
	}
	if held < trials*8/10 {
		t.Errorf("the interval holds the true difference %d times of %d, want about 95 %%", held, trials)
	}
}

func TestRandomRows(t *testing.T) {
	rows := RandomRows(400, 64, 3)
	if !slices.Equal(rows[:100*64], RandomRows(100, 64, 3)) {
		t.Error("RandomRows: the first rows depend on their number")
	}
	if slices.Equal(rows[:64], RandomRows(1, 64, 4)) {
		t.Error("RandomRows does not depend on its seed")
	}
	var mean, square float64
	for _, v := range rows {
		mean += float64(v) / float64(len(rows))
		square += float64(v) * float64(v) / float64(len(rows))
	}
	if want := 8. / 12; math.Abs(mean) > 5*math.Sqrt(want/float64(len(rows))) || math.Abs(square-want) > 0.02 {
		t.Errorf("RandomRows: mean %v, variance %v, want 0 and %v", mean, square, want)
	}
}
