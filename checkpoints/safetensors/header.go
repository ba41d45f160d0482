package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

type header struct {
	tensors  map[string]Info
	metadata map[string]string
}

// parseHeader reads the JSON by tokens: encoding/json's structs would ignore letter case and duplicate names.
func parseHeader(text []byte) (*header, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, errors.New("header does not begin with {")
	}
	if !utf8.Valid(text) {
		return nil, errors.New("header is not valid UTF-8")
	}
	h := &header{tensors: map[string]Info{}}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	err := object(dec, func(name string) error {
		if name == "__metadata__" {
			if h.metadata != nil {
				return errors.New("header has __metadata__ twice")
			}
			return h.parseMetadata(dec)
		}
		if _, twice := h.tensors[name]; twice {
			return fmt.Errorf("header has tensor %q twice", name)
		}
		info, err := parseInfo(dec, name)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		h.tensors[name] = info
		return nil
	})
	if err != nil {
		return nil, err
	}
	if tok, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("header: %v after its closing brace", tokenOr(tok, err))
	}
	return h, nil
}

func (h *header) parseMetadata(dec *json.Decoder) error {
	h.metadata = map[string]string{}
	err := object(dec, func(key string) error {
		tok, err := next(dec)
		if err != nil {
			return err
		}
		value, ok := tok.(string)
		if !ok {
			return fmt.Errorf("key %q: %v is not a string", key, tok)
		}
		h.metadata[key] = value
		return nil
	})
	if err != nil {
		return fmt.Errorf("__metadata__: %w", err)
	}
	return nil
}

func parseInfo(dec *json.Decoder, name string) (Info, error) {
	info := Info{Name: name, Shape: []int{}}
	var offsets []int
	seen := map[string]bool{}
	err := object(dec, func(key string) (err error) {
		if seen[key] {
			return fmt.Errorf("%s twice", key)
		}
		seen[key] = true
		switch key {
		case "dtype":
			tok, err := next(dec)
			if err != nil {
				return err
			}
			s, ok := tok.(string)
			if !ok {
				return fmt.Errorf("dtype %v is not a string", tok)
			}
			info.DType = DType(s)
			if info.DType.Size() == 0 {
				return fmt.Errorf("dtype %q is not supported (F64, F32, F16, BF16, I64 to I8, U64 to U8, BOOL are)", s)
			}
		case "shape":
			if info.Shape, err = integers(dec); err != nil {
				return fmt.Errorf("shape: %w", err)
			}
		case "data_offsets":
			if offsets, err = integers(dec); err != nil {
				return fmt.Errorf("data_offsets: %w", err)
			}
		default:
			var skipped json.RawMessage // later versions of the format may say more about a tensor
			return dec.Decode(&skipped)
		}
		return nil
	})
	if err != nil {
		return Info{}, err
	}
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if !seen[key] {
			return Info{}, fmt.Errorf("no %s", key)
		}
	}
	if len(offsets) != 2 {
		return Info{}, fmt.Errorf("%d data_offsets, want 2", len(offsets))
	}
	info.Begin, info.End = int64(offsets[0]), int64(offsets[1])
	if info.Begin > info.End {
		return Info{}, fmt.Errorf("data_offsets [%d, %d] are reversed", info.Begin, info.End)
	}
	return info, info.checkSize()
}

// checkSize compares the shape with the byte range. A product that overflows is refused even where a zero
// follows, as the reference does.
func (i Info) checkSize() error {
	size := uint64(1)
	for _, d := range append([]int{i.DType.Size()}, i.Shape...) {
		hi, lo := bits.Mul64(size, uint64(d))
		if hi != 0 || lo > 1<<62 {
			return fmt.Errorf("shape %v of %s is more than 2^62 bytes", i.Shape, i.DType)
		}
		size = lo
	}
	if size != uint64(i.End-i.Begin) {
		return fmt.Errorf("shape %v of %s is %d bytes, but data_offsets [%d, %d] hold %d", i.Shape, i.DType, size, i.Begin, i.End, i.End-i.Begin)
	}
	return nil
}

// object calls field for every key of the next value, which must be an object; field consumes the key's value.
func object(dec *json.Decoder, field func(key string) error) error {
	tok, err := next(dec)
	if err != nil {
		return err
	}
	if tok != json.Delim('{') {
		return fmt.Errorf("%v where an object should be", tok)
	}
	for dec.More() {
		tok, err := next(dec)
		if err != nil {
			return err
		}
		if err := field(tok.(string)); err != nil { // the decoder lets only strings be keys
			return err
		}
	}
	_, err = next(dec)
	return err
}

// integers reads an array of non-negative integers. An array grows with the header's text, not with a length.
func integers(dec *json.Decoder) ([]int, error) {
	tok, err := next(dec)
	if err != nil {
		return nil, err
	}
	if tok != json.Delim('[') {
		return nil, fmt.Errorf("%v where an array should be", tok)
	}
	out := []int{}
	for dec.More() {
		tok, err := next(dec)
		if err != nil {
			return nil, err
		}
		number, ok := tok.(json.Number)
		if !ok {
			return nil, fmt.Errorf("%v is not an integer", tok)
		}
		n, err := strconv.ParseInt(number.String(), 10, strconv.IntSize)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s is not an integer from 0 to 2^%d-1", number, strconv.IntSize-1)
		}
		out = append(out, int(n))
	}
	_, err = next(dec)
	return out, err
}

func next(dec *json.Decoder) (json.Token, error) {
	tok, err := dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("header JSON at byte %d: %w", dec.InputOffset(), err)
	}
	return tok, nil
}

func tokenOr(tok json.Token, err error) any {
	if err != nil {
		return err
	}
	return tok
}
