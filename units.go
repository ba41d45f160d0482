package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// count is a number for people: 983 k or 1.24 M.
func count(n int64) string {
	for _, u := range []struct {
		unit float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if x := float64(n); x >= u.unit {
			return short(x/u.unit) + " " + u.name
		}
	}
	return grouped(n)
}

// size is a number of bytes for people, in powers of 1,000.
func size(n float64) string {
	for _, u := range []struct {
		unit float64
		name string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if n >= u.unit {
			return short(n/u.unit) + " " + u.name
		}
	}
	return fmt.Sprintf("%.0f B", math.Ceil(n))
}

// grouped writes an integer with commas between its thousands.
func grouped[T int | int32 | int64](n T) string {
	digits := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

func plural[T int | int32 | int64](n T, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// short writes a number below 1,000 with three digits.
func short(x float64) string {
	switch {
	case x >= 99.95:
		return fmt.Sprintf("%.0f", x)
	case x >= 9.995:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// span is a time for people: 0.42 s, 3 min 20 s, 5 h 10 min, 3.1 days.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case seconds < 60:
		return short(seconds) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return short(d.Hours()/24) + " days"
}
