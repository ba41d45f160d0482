package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// measures are durations by fault and figure.
type measures struct {
	order  [][2]string
	values map[[2]string][]time.Duration
}

func (m *measures) add(fault, figure string, d time.Duration) {
	if m.values == nil {
		m.values = map[[2]string][]time.Duration{}
	}
	k := [2]string{fault, figure}
	if m.values[k] == nil {
		m.order = append(m.order, k)
	}
	m.values[k] = append(m.values[k], d)
}

// count is how many faults there were.
func (m *measures) count() (n int) {
	for k, v := range m.values {
		if k[1] == pause {
			n += len(v)
		}
	}
	return n
}

func (m *measures) print() {
	slices.SortFunc(m.order, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "fault\tfigure\tn\tmedian\tp99\tmost\t")
	for _, k := range m.order {
		v := slices.Clone(m.values[k])
		slices.Sort(v)
		at := func(q float64) time.Duration { return v[min(int(q*float64(len(v))), len(v)-1)].Round(time.Millisecond) }
		fmt.Fprintf(t, "%s\t%s\t%d\t%v\t%v\t%v\t\n", k[0], k[1], len(v), at(0.5), at(0.99), v[len(v)-1].Round(time.Millisecond))
	}
	_ = t.Flush() // to the terminal
}
