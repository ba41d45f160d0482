package coordinator

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseShare reads a share in [0, 1]: "1/64", "0.02", "0"; "" is 0.
func ParseShare(text string) (float64, error) {
	over, under, fraction := strings.Cut(text, "/")
	value, err := strconv.ParseFloat(strings.TrimSpace(over), 64)
	if text == "" {
		return 0, nil
	}
	if fraction && err == nil {
		var by float64
		if by, err = strconv.ParseFloat(strings.TrimSpace(under), 64); err == nil {
			value /= by
		}
	}
	if err != nil || !(value >= 0 && value <= 1) {
		return 0, fmt.Errorf("found %q; a share from 0 to 1 is allowed, such as 1/64 or 0.02", text)
	}
	return value, nil
}
