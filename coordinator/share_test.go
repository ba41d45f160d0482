package coordinator

import "testing"

func TestParseShare(t *testing.T) {
	for text, want := range map[string]float64{"": 0, "0": 0, "1/64": 1.0 / 64, " 1 / 2": 0.5, "0.02": 0.02, "1": 1, "1/0": -1, "2": -1, "x": -1, "-1/2": -1, "NaN": -1, "1/2/3": -1, "/": -1} {
		got, err := ParseShare(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("ParseShare(%q) = %v, %v, want %v (-1 is an error)", text, got, err, want)
		}
	}
}
