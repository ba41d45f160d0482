package tokenize

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type patternParser struct {
	text    string
	pos     int
	fold    bool // inside (?i:...)
	classes map[string]*class
}

const maxGroupDepth = 20

func (p *patternParser) alternatives(inside bool) ([][]element, error) {
	var out [][]element
	for {
		seqs, err := p.sequence()
		if err != nil {
			return nil, err
		}
		out = append(out, seqs...)
		if len(out) > 1000 {
			return nil, errors.New("too many alternatives")
		}
		if !p.take("|") {
			break
		}
	}
	if inside && !p.take(")") {
		return nil, errors.New("missing )")
	}
	return out, nil
}

// sequence returns several sequences where a group with alternatives had to be multiplied out.
func (p *patternParser) sequence() ([][]element, error) {
	seqs := [][]element{nil}
	for p.pos < len(p.text) && p.text[p.pos] != '|' && p.text[p.pos] != ')' {
		if p.text[p.pos] == '(' {
			next, err := p.group(seqs)
			if err != nil {
				return nil, err
			}
			seqs = next
			continue
		}
		e, err := p.repeated()
		if err != nil {
			return nil, err
		}
		for i := range seqs {
			seqs[i] = append(seqs[i], e)
		}
	}
	return seqs, nil
}

func (p *patternParser) group(seqs [][]element) ([][]element, error) {
	if p.take("(?!") {
		c, err := p.class()
		if err != nil {
			return nil, err
		}
		if !p.take(")") {
			return nil, errors.New("only a look-ahead for a single class, (?!\\S), is supported")
		}
		for i := range seqs {
			seqs[i] = append(seqs[i], element{class: c, ahead: true})
		}
		return seqs, nil
	}
	fold := p.fold
	switch {
	case p.take("(?i:"):
		p.fold = true
	case p.take("(?:"):
	case strings.HasPrefix(p.text[p.pos:], "(?"):
		return nil, fmt.Errorf("group %.4q is not supported", p.text[p.pos:])
	default:
		p.pos++
	}
	if strings.Count(p.text[:p.pos], "(") > maxGroupDepth {
		return nil, errors.New("too many groups")
	}
	inner, err := p.alternatives(true)
	p.fold = fold
	if err != nil {
		return nil, err
	}
	if p.take("?") && (p.pos == len(p.text) || p.text[p.pos] == '|' || p.text[p.pos] == ')') {
		// (?i:'s|'t)? at an end, as the expressions of o200k have it: what is before never gives way to it.
		for i := range seqs {
			seqs[i] = append(seqs[i], element{options: inner})
		}
		return seqs, nil
	}
	if p.pos < len(p.text) && strings.IndexByte("*+?{", p.text[p.pos]) >= 0 || p.text[p.pos-1] == '?' {
		return nil, errors.New("a repeated group is supported only as (...)? at the end of an alternative")
	}
	for _, seq := range seqs {
		for _, e := range seq { // multiplying out keeps the order of preference only behind a fixed length
			if !e.ahead && e.min != e.max && len(inner) > 1 {
				return nil, errors.New("alternatives behind a repetition are not supported")
			}
		}
	}
	if len(seqs)*len(inner) > 1000 {
		return nil, errors.New("too many alternatives")
	}
	var out [][]element
	for _, seq := range seqs {
		for _, in := range inner {
			out = append(out, append(append([]element(nil), seq...), in...))
		}
	}
	return out, nil
}

func (p *patternParser) repeated() (element, error) {
	c, err := p.class()
	if err != nil {
		return element{}, err
	}
	e := element{class: c, min: 1, max: 1}
	switch {
	case p.take("?"):
		e.min = 0
	case p.take("*"):
		e.min, e.max = 0, unlimited
	case p.take("+"):
		e.max = unlimited
	case p.take("{"):
		if err := p.bounds(&e); err != nil {
			return e, err
		}
	default:
		return e, nil
	}
	if p.text[p.pos-1] != '}' && p.take("+") {
		e.possessive = true
	} else if p.pos < len(p.text) && strings.IndexByte("?*+{", p.text[p.pos]) >= 0 {
		return e, fmt.Errorf("a lazy or doubled repetition (%q) is not supported", p.text[p.pos])
	}
	return e, nil
}

func (p *patternParser) bounds(e *element) error {
	inside, _, ok := strings.Cut(p.text[p.pos:], "}")
	low, high, ranged := strings.Cut(inside, ",")
	var err error
	if e.min, err = strconv.Atoi(low); !ok || err != nil || e.min < 0 {
		return fmt.Errorf("bad repetition {%.12s", p.text[p.pos:])
	}
	switch {
	case !ranged:
		e.max = e.min
	case high == "":
		e.max = unlimited
	default:
		if e.max, err = strconv.Atoi(high); err != nil || e.max < e.min {
			return fmt.Errorf("bad repetition {%s}", inside)
		}
	}
	p.pos += len(inside) + 1
	return nil
}

// class reads a character, an escape or a bracketed set.
func (p *patternParser) class() (*class, error) {
	start := p.pos
	var items []classItem
	negated := false
	if p.take("[") {
		var err error
		if items, negated, err = p.set(); err != nil {
			return nil, err
		}
	} else {
		item, err := p.item(false)
		if err != nil {
			return nil, err
		}
		items = []classItem{item}
	}
	if p.fold {
		var err error
		if items, err = folded(items); err != nil {
			return nil, err
		}
	}
	key := fmt.Sprint(p.fold, p.text[start:p.pos])
	if p.classes[key] == nil {
		p.classes[key] = newClass(items, negated)
	}
	return p.classes[key], nil
}

func (p *patternParser) set() (items []classItem, negated bool, err error) {
	negated = p.take("^")
	for first := true; ; first = false {
		if p.pos == len(p.text) {
			return nil, false, errors.New("missing ]")
		}
		if !first && p.take("]") {
			return items, negated, nil
		}
		if first && p.text[p.pos] == ']' {
			return nil, false, errors.New("an empty set")
		}
		if strings.HasPrefix(p.text[p.pos:], "[") || strings.HasPrefix(p.text[p.pos:], "&&") {
			return nil, false, errors.New("nested sets are not supported")
		}
		item, err := p.item(true)
		if err != nil {
			return nil, false, err
		}
		if item.table == nil && strings.HasPrefix(p.text[p.pos:], "-") && !strings.HasPrefix(p.text[p.pos:], "-]") {
			p.pos++
			end, err := p.item(true)
			if err != nil || end.table != nil || end.hi < item.lo {
				return nil, false, errors.New("bad range")
			}
			item.hi = end.hi
		}
		items = append(items, item)
	}
}

var escapes = map[byte]rune{'r': '\r', 'n': '\n', 't': '\t', 'f': '\f', 'v': '\v'}

func (p *patternParser) item(inSet bool) (classItem, error) {
	if p.pos == len(p.text) {
		return classItem{}, errors.New("the expression ends too early")
	}
	if !p.take(`\`) {
		r, n := utf8.DecodeRuneInString(p.text[p.pos:])
		if !inSet && strings.ContainsRune(".^$*+?{}]", r) {
			return classItem{}, fmt.Errorf("%q is not supported here", r)
		}
		p.pos += n
		return classItem{lo: r, hi: r}, nil
	}
	if p.pos == len(p.text) {
		return classItem{}, errors.New("the expression ends with a backslash")
	}
	b := p.text[p.pos]
	p.pos++
	switch b {
	case 's', 'S':
		return classItem{table: unicode.White_Space, negate: b == 'S'}, nil
	case 'd', 'D':
		return classItem{table: unicode.Nd, negate: b == 'D'}, nil
	case 'p', 'P':
		name, _, ok := strings.Cut(strings.TrimPrefix(p.text[p.pos:], "{"), "}")
		table := unicode.Categories[name]
		if !ok || p.text[p.pos] != '{' || table == nil {
			return classItem{}, fmt.Errorf("property %.12q is not a general category", p.text[p.pos:])
		}
		p.pos += len(name) + 2
		return classItem{table: table, negate: b == 'P'}, nil
	}
	if r, ok := escapes[b]; ok {
		return classItem{lo: r, hi: r}, nil
	}
	if b >= utf8.RuneSelf || unicode.IsLetter(rune(b)) || unicode.IsDigit(rune(b)) {
		return classItem{}, fmt.Errorf("escape \\%c is not supported", b)
	}
	return classItem{lo: rune(b), hi: rune(b)}, nil
}

// folded adds the other cases of single characters: (?i:'s) matches 'S and 'ſ too.
func folded(items []classItem) ([]classItem, error) {
	for _, item := range items {
		if item.table != nil || item.lo != item.hi {
			return nil, errors.New("inside (?i:...) only single characters are supported")
		}
		for r := unicode.SimpleFold(item.lo); r != item.lo; r = unicode.SimpleFold(r) {
			items = append(items, classItem{lo: r, hi: r})
		}
	}
	return items, nil
}

func (p *patternParser) take(s string) bool {
	if !strings.HasPrefix(p.text[p.pos:], s) {
		return false
	}
	p.pos += len(s)
	return true
}
