package credential

import (
	"fmt"
	"log/slog"
)

// hidden is what a Secret prints as.
const hidden = "[secret]"

// Secret is a text that no log, status or crash output shows: it prints as [secret] in every form. Only Reveal
// returns it. It is a pointer inside, since package fmt looks through the fields of structs that it may not call methods
// of, and shows an address there.
type Secret struct{ text *string }

// NewSecret wraps a text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is none.
func (s Secret) Empty() bool { return s.text == nil }

// Format implements fmt.Formatter for every verb, so that no verb looks into the struct.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// String returns [secret], or "" when there is none.
func (s Secret) String() string {
	if s.Empty() {
		return ""
	}
	return hidden
}

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is what JSON, YAML and text handlers write.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the text as it is.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = NewSecret(string(b))
	return nil
}
