package tokenize

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder turns tokens into text; each step maps a list of pieces to another, as in the reference.
type decoder interface {
	apply(pieces []string) []string
}

type sequenceDecoder []decoder

func (d sequenceDecoder) apply(pieces []string) []string {
	for _, step := range d {
		pieces = step.apply(pieces)
	}
	return pieces
}

// byteLevelDecoder maps visible characters back to bytes; a token with any other character stands for itself.
type byteLevelDecoder struct{}

func (byteLevelDecoder) apply(pieces []string) []string {
	var out []byte
	for _, p := range pieces {
		if raw, ok := rawBytes(p); ok {
			out = append(out, raw...)
		} else {
			out = append(out, p...)
		}
	}
	return []string{lossy(out)}
}

type replaceDecoder struct{ old, new string }

func (d replaceDecoder) apply(pieces []string) []string {
	out := make([]string, len(pieces))
	for i, p := range pieces {
		out[i] = strings.ReplaceAll(p, d.old, d.new)
	}
	return out
}

// byteFallbackDecoder joins runs of <0x..> tokens; a run that is not UTF-8 gives one U+FFFD per byte.
type byteFallbackDecoder struct{}

func (byteFallbackDecoder) apply(pieces []string) []string {
	var out []string
	var run []byte
	flush := func() {
		if utf8.Valid(run) {
			if len(run) > 0 {
				out = append(out, string(run))
			}
		} else {
			for range run {
				out = append(out, "\uFFFD")
			}
		}
		run = run[:0]
	}
	for _, p := range pieces {
		if b, ok := fallbackByte(p); ok {
			run = append(run, b)
			continue
		}
		flush()
		out = append(out, p)
	}
	flush()
	return out
}

func fallbackByte(token string) (byte, bool) {
	if len(token) != 6 || !strings.HasPrefix(token, "<0x") || token[5] != '>' {
		return 0, false
	}
	b, err := strconv.ParseUint(token[3:5], 16, 8)
	return byte(b), err == nil
}

type fuseDecoder struct{}

func (fuseDecoder) apply(pieces []string) []string { return []string{strings.Join(pieces, "")} }

// stripDecoder removes up to start characters from the front of each piece and up to stop from its end.
type stripDecoder struct {
	content     string
	start, stop int
}

func (d stripDecoder) apply(pieces []string) []string {
	out := make([]string, len(pieces))
	for i, p := range pieces {
		for n := 0; n < d.start && strings.HasPrefix(p, d.content); n++ {
			p = p[len(d.content):]
		}
		for n := 0; n < d.stop && strings.HasSuffix(p, d.content); n++ {
			p = p[:len(p)-len(d.content)]
		}
		out[i] = p
	}
	return out
}

// metaspaceDecoder turns marks into blanks and drops the one that the encoder may have put in front.
type metaspaceDecoder struct {
	mark     string
	prefixed bool
}

func (d metaspaceDecoder) apply(pieces []string) []string {
	out := make([]string, len(pieces))
	for i, p := range pieces {
		if i == 0 && d.prefixed {
			p = strings.TrimPrefix(p, d.mark)
		}
		out[i] = strings.ReplaceAll(p, d.mark, " ")
	}
	return out
}

// Decode returns the text of ids. Ids without a token are left out; special ones too if skipSpecial.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	pieces := make([]string, 0, len(ids))
	for _, id := range ids {
		token, ok := t.Token(id)
		if !ok || skipSpecial && t.special[id] {
			continue
		}
		if normal, ok := t.normal[id]; ok {
			token = normal
		}
		pieces = append(pieces, token)
	}
	if t.decoder == nil {
		return strings.Join(pieces, " ")
	}
	return strings.Join(t.decoder.apply(pieces), "")
}

// lossy replaces each maximal ill-formed part by one U+FFFD (Unicode 3.9, "Substitution of Maximal Subparts").
func lossy(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 {
			for n = 1; n < len(b) && !utf8.FullRune(b[:n+1]); {
				n++ // still the beginning of some character
			}
			out.WriteRune(utf8.RuneError)
		} else {
			out.Write(b[:n])
		}
		b = b[n:]
	}
	return out.String()
}

// byteRunes is GPT-2's table of a visible character for each byte: printable Latin-1 stands for itself, the 68
// others are moved to U+0100 and up.
var byteRunes = func() (table [256]rune) {
	moved := rune(0x100)
	for b := range table {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			table[b] = rune(b)
		} else {
			table[b] = moved
			moved++
		}
	}
	return table
}()

var runeBytes = func() map[rune]byte {
	m := make(map[rune]byte, 256)
	for b, r := range byteRunes {
		m[r] = byte(b)
	}
	return m
}()

// rawBytes undoes GPT-2's table; ok is false if some character is not in it.
func rawBytes(token string) (raw string, ok bool) {
	out := make([]byte, 0, len(token))
	for _, r := range token {
		b, ok := runeBytes[r]
		if !ok {
			return "", false
		}
		out = append(out, b)
	}
	return string(out), true
}
