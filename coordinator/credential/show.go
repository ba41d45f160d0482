package credential

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Shown is a certificate as `counterpoint certs show` tells of it.
type Shown struct {
	File     string    `json:"file"`
	Role     Role      `json:"role"` // "ca" for one of a CA
	Name     string    `json:"name"`
	Hosts    []string  `json:"hosts"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	DaysLeft int       `json:"days_left"`
	State    string    `json:"state"` // what is wrong with it in time: "valid for 12 days", "expired on ..."
	Issuer   string    `json:"issuer"`
	Serial   string    `json:"serial"`
	Key      string    `json:"key"`
}

// Show reads the certificates of a file.
func Show(name string, now time.Time) ([]Shown, error) {
	chain, err := ReadCertificates(name)
	if err != nil {
		return nil, err
	}
	var all []Shown
	for _, c := range chain {
		s := Shown{
			File: name, Name: c.Subject.CommonName, Hosts: Hosts(c), From: c.NotBefore, Until: c.NotAfter,
			DaysLeft: int(c.NotAfter.Sub(now) / (24 * time.Hour)), Issuer: c.Issuer.CommonName,
			Serial: c.SerialNumber.Text(16), Key: c.PublicKeyAlgorithm.String(),
		}
		if m, err := MemberOf(c); err == nil {
			s.Role, s.Name = m.Role, m.Name
		} else if c.IsCA {
			s.Role = "ca"
		}
		var refused *RefusedError
		if errors.As(inTime(c, now), &refused) {
			s.State = string(refused.Reason)
		} else {
			s.State = fmt.Sprintf("valid for %s", FormatDuration(c.NotAfter.Sub(now).Truncate(time.Minute)))
		}
		all = append(all, s)
	}
	return all, nil
}

// Units of durations beyond those of package time.
const (
	day  = 24 * time.Hour
	year = 365 * day
)

// ParseDuration reads a duration: 90d, 1y, or as time.ParseDuration does, 36h.
func ParseDuration(s string) (time.Duration, error) {
	for _, u := range []struct {
		suffix string
		unit   time.Duration
	}{{"d", day}, {"y", year}} {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			v, err := strconv.Atoi(n)
			if err != nil || v <= 0 || v > int(100*year/u.unit) {
				return 0, fmt.Errorf("%q: a whole number of days or years is expected, such as 90d or 1y, a hundred years at most", s)
			}
			return time.Duration(v) * u.unit, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q: a duration is expected, such as 36h, 90d or 1y", s)
	}
	return d, nil
}

// FormatDuration writes a duration in its largest whole unit.
func FormatDuration(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d >= year && d%year == 0:
		return fmt.Sprintf("%dy", d/year)
	case d >= 2*day:
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}
