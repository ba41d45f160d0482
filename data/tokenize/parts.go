package tokenize

import (
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/text/unicode/norm"
)

// maxNesting bounds Sequences of Sequences.
const maxNesting = 100

// kindOf returns the type of a part, "" for null.
func kindOf(text json.RawMessage, depth int) (string, error) {
	if isNull(text) {
		return "", nil
	}
	if depth > maxNesting {
		return "", fmt.Errorf("more than %d nested sequences", maxNesting)
	}
	var part struct {
		Type *string `json:"type"`
	}
	if err := json.Unmarshal(text, &part); err != nil {
		return "", err
	}
	if part.Type == nil || *part.Type == "" {
		return "", errors.New("no type")
	}
	return *part.Type, nil
}

func unsupported(kind, supported string) error {
	return fmt.Errorf("type %q is not supported (%s are)", kind, supported)
}

// patternFile is {"String": ...} or {"Regex": ...}.
type patternFile struct {
	String *string
	Regex  *string
}

func buildNormalizer(text json.RawMessage, depth int) (normalizer, error) {
	kind, err := kindOf(text, depth)
	if err != nil || kind == "" {
		return nil, err
	}
	var part struct {
		Normalizers []json.RawMessage
		Prepend     string
		Pattern     patternFile
		Content     string
		StripLeft   bool `json:"strip_left"`
		StripRight  bool `json:"strip_right"`
	}
	if err := json.Unmarshal(text, &part); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	switch kind {
	case "Sequence":
		var seq sequenceNormalizer
		for _, inner := range part.Normalizers {
			n, err := buildNormalizer(inner, depth+1)
			if err != nil {
				return nil, err
			}
			if n != nil {
				seq = append(seq, n)
			}
		}
		return seq, nil
	case "NFC":
		return formNormalizer(norm.NFC), nil
	case "NFD":
		return formNormalizer(norm.NFD), nil
	case "NFKC":
		return formNormalizer(norm.NFKC), nil
	case "NFKD":
		return formNormalizer(norm.NFKD), nil
	case "Lowercase":
		return lowercaseNormalizer{}, nil
	case "Strip":
		return stripNormalizer{part.StripLeft, part.StripRight}, nil
	case "Prepend":
		return prependNormalizer(part.Prepend), nil
	case "Replace":
		if s := part.Pattern.String; s != nil && *s != "" {
			return replaceNormalizer{*s, part.Content}, nil
		}
		if part.Pattern.Regex == nil {
			return nil, errors.New("a Replace without a pattern")
		}
		p, err := compilePattern(*part.Pattern.Regex)
		if err != nil {
			return nil, fmt.Errorf("in Replace: %w", err)
		}
		return patternNormalizer{p, part.Content}, nil
	}
	return nil, unsupported(kind, "Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend, Replace")
}

func buildStages(text json.RawMessage, depth int) ([]stage, error) {
	kind, err := kindOf(text, depth)
	if err != nil || kind == "" {
		return nil, err
	}
	var part struct {
		Pretokenizers []json.RawMessage
		Pattern       patternFile
		Behavior      string
		Invert        bool
		PrefixSpace   *bool   `json:"add_prefix_space"`
		UseRegex      *bool   `json:"use_regex"`
		Individual    bool    `json:"individual_digits"`
		Replacement   string  `json:"replacement"`
		Scheme        *string `json:"prepend_scheme"`
		Split         *bool   `json:"split"`
	}
	if err := json.Unmarshal(text, &part); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	switch kind {
	case "Sequence":
		var out []stage
		for _, inner := range part.Pretokenizers {
			stages, err := buildStages(inner, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, stages...)
		}
		return out, nil
	case "ByteLevel":
		s := &byteLevelStage{prefixSpace: part.PrefixSpace == nil || *part.PrefixSpace}
		if part.UseRegex == nil || *part.UseRegex {
			if s.pattern, err = compilePattern(gpt2Pattern); err != nil {
				return nil, err
			}
		}
		return []stage{s}, nil
	case "Split":
		s, err := buildSplit(part.Pattern, part.Behavior, part.Invert)
		if err != nil {
			return nil, fmt.Errorf("in Split: %w", err)
		}
		return []stage{s}, nil
	case "Digits":
		return []stage{digitsStage{part.Individual}}, nil
	case "Metaspace":
		s := &metaspaceStage{mark: part.Replacement, scheme: "always", split: part.Split == nil || *part.Split}
		if part.Scheme != nil {
			s.scheme = *part.Scheme
		} else if part.PrefixSpace != nil && !*part.PrefixSpace {
			s.scheme = "never"
		}
		if s.mark == "" || s.scheme != "always" && s.scheme != "first" && s.scheme != "never" {
			return nil, fmt.Errorf("in Metaspace: replacement %q, prepend_scheme %q (always, first and never are allowed)", s.mark, s.scheme)
		}
		return []stage{s}, nil
	}
	return nil, unsupported(kind, "Sequence, ByteLevel, Split, Digits, Metaspace")
}

func buildSplit(pat patternFile, behavior string, invert bool) (stage, error) {
	s := &splitStage{}
	switch behavior {
	case "Isolated":
	case "Removed":
		s.dropMatches, s.dropGaps = !invert, invert
	default:
		return nil, fmt.Errorf("behavior %q is not supported (Isolated and Removed are)", behavior)
	}
	var err error
	switch {
	case pat.Regex != nil:
		s.pattern, err = compilePattern(*pat.Regex)
	case pat.String != nil && *pat.String != "":
		s.pattern, err = literalPattern(*pat.String)
	default:
		err = errors.New("no pattern")
	}
	return s, err
}

func literalPattern(text string) (*pattern, error) {
	var seq []element
	for _, r := range text {
		seq = append(seq, element{class: newClass([]classItem{{lo: r, hi: r}}, false), min: 1, max: 1})
	}
	p := &pattern{alternatives: [][]element{seq}}
	return p, p.index()
}

func buildDecoder(text json.RawMessage, depth int) (decoder, error) {
	kind, err := kindOf(text, depth)
	if err != nil || kind == "" {
		return nil, err
	}
	var part struct {
		Decoders    []json.RawMessage
		Pattern     patternFile
		Content     string
		Start       int
		Stop        int
		Replacement string
		Scheme      *string `json:"prepend_scheme"`
		PrefixSpace *bool   `json:"add_prefix_space"`
	}
	if err := json.Unmarshal(text, &part); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	switch kind {
	case "Sequence":
		var seq sequenceDecoder
		for _, inner := range part.Decoders {
			d, err := buildDecoder(inner, depth+1)
			if err != nil {
				return nil, err
			}
			if d != nil {
				seq = append(seq, d)
			}
		}
		return seq, nil
	case "ByteLevel":
		return byteLevelDecoder{}, nil
	case "ByteFallback":
		return byteFallbackDecoder{}, nil
	case "Fuse":
		return fuseDecoder{}, nil
	case "Strip":
		if part.Content == "" || part.Start < 0 || part.Stop < 0 {
			return nil, fmt.Errorf("in Strip: content %q, start %d, stop %d", part.Content, part.Start, part.Stop)
		}
		return stripDecoder{part.Content, part.Start, part.Stop}, nil
	case "Replace":
		if part.Pattern.String == nil || *part.Pattern.String == "" {
			return nil, errors.New("in Replace: only a String pattern is supported")
		}
		return replaceDecoder{*part.Pattern.String, part.Content}, nil
	case "Metaspace":
		never := part.Scheme != nil && *part.Scheme == "never" || part.Scheme == nil && part.PrefixSpace != nil && !*part.PrefixSpace
		return metaspaceDecoder{part.Replacement, !never}, nil
	}
	return nil, unsupported(kind, "Sequence, ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace")
}

// templatePiece is {"SpecialToken": {id, type_id}} or {"Sequence": {id, type_id}}.
type templatePiece struct {
	SpecialToken, Sequence *struct {
		ID     string `json:"id"`
		TypeID int32  `json:"type_id"`
	}
}

func buildTemplate(text json.RawMessage, depth int) (template, error) {
	kind, err := kindOf(text, depth)
	if err != nil || kind == "" {
		return template{}, err
	}
	var part struct {
		Processors    []json.RawMessage
		Single, Pair  []templatePiece
		SpecialTokens map[string]struct{ IDs []int32 } `json:"special_tokens"`
	}
	if err := json.Unmarshal(text, &part); err != nil {
		return template{}, fmt.Errorf("%s: %w", kind, err)
	}
	switch kind {
	case "ByteLevel": // changes offsets only
		return template{}, nil
	case "Sequence":
		var out template
		for _, inner := range part.Processors {
			t, err := buildTemplate(inner, depth+1)
			if err != nil {
				return template{}, err
			}
			if t.single != nil {
				if out.single != nil {
					return template{}, errors.New("two TemplateProcessing in one Sequence are not supported")
				}
				out = t
			}
		}
		return out, nil
	case "TemplateProcessing":
		ids := map[string][]int32{}
		for name, special := range part.SpecialTokens {
			ids[name] = special.IDs
		}
		single, err := resolveTemplate(part.Single, ids, "A")
		if err != nil {
			return template{}, fmt.Errorf("single: %w", err)
		}
		if len(part.Pair) == 0 {
			return template{single: single}, nil
		}
		pair, err := resolveTemplate(part.Pair, ids, "AB")
		if err != nil {
			return template{}, fmt.Errorf("pair: %w", err)
		}
		return template{single, pair}, nil
	}
	return template{}, unsupported(kind, "Sequence, ByteLevel, TemplateProcessing")
}

func resolveTemplate(pieces []templatePiece, ids map[string][]int32, want string) ([]templatePart, error) {
	parts := []templatePart{}
	for i, p := range pieces {
		switch {
		case p.Sequence != nil && (p.Sequence.ID == "A" || p.Sequence.ID == "B"):
			parts = append(parts, templatePart{sequence: p.Sequence.ID[0], typeID: p.Sequence.TypeID})
		case p.SpecialToken != nil:
			special, ok := ids[p.SpecialToken.ID]
			if !ok {
				return nil, fmt.Errorf("piece %d names %q, which special_tokens does not define", i, p.SpecialToken.ID)
			}
			parts = append(parts, templatePart{ids: special, typeID: p.SpecialToken.TypeID})
		default:
			return nil, fmt.Errorf("piece %d is neither a Sequence A or B nor a SpecialToken", i)
		}
	}
	return parts, checkTemplate(parts, want)
}
