package credential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretPrintsAsSecret(t *testing.T) {
	const text = "planted-7f3a"
	type config struct {
		Name  string
		Token Secret
		Inner *Secret
		All   []Secret
		by    Secret
	}
	s := NewSecret(text)
	c := config{"n", s, &s, []Secret{s}, s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T %v"} {
		for _, v := range []any{s, &s, c, &c, []any{s}, map[string]Secret{"k": s}, fmt.Errorf("wrap: %v", s)} {
			fmt.Fprintf(&out, verb+"\n", v, v)
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "secret", s, "config", c, "pointer", &c)
	}
	func() {
		defer func() { fmt.Fprint(&out, recover()) }()
		panic(c)
	}()
	if strings.Contains(out.String(), text) || strings.Contains(out.String(), fmt.Sprintf("%x", text)) {
		t.Errorf("the secret shows in %s", out.String())
	}
	if !strings.Contains(out.String(), hidden) {
		t.Errorf("no %s in %s", hidden, out.String())
	}
	var back Secret
	if err := json.Unmarshal([]byte(`"`+text+`"`), &back); err != nil || back.Reveal() != text {
		t.Errorf("Reveal = %q, %v, want %q", back.Reveal(), err, text)
	}
}
