package main

import (
	"fmt"
	"io"

	"github.com/counterpoint-ml/counterpoint/coordinator"
)

// writePaths says how workers take sums, totals and states from each other.
func writePaths(w io.Writer, workers []coordinator.WorkerStatus) error {
	t := newTable(w, column{name: "EXCHANGE TO", least: 12}, column{name: "FROM", least: 12}, column{name: "OVER"},
		column{name: "MB", right: true}, column{name: "MB/S", right: true}, column{name: "WHY"})
	some := false
	for _, m := range workers {
		for _, p := range m.Paths {
			t.row(m.Worker, p.Worker, p.Kind, fmt.Sprintf("%.1f", float64(p.Bytes)/1e6), fmt.Sprintf("%.0f", p.Rate/1e6), p.Why)
			some = true
		}
	}
	if !some {
		return nil
	}
	fmt.Fprintln(w)
	return t.write(w)
}
