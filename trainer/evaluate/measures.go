package evaluate

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// Measure is one number by trec_eval's name, such as ndcg_cut_10.
type Measure struct {
	Name   string // as printed
	define *definition
	order  int       // trec_eval prints in the order of its own table
	k      int       // cut after so many documents
	x      float64   // cut at such a share
	args   []float64 // parameters of the whole measure
	gains  gains
}

// Of is the measure of a ranking.
func (m Measure) Of(r Ranking) float64 { return m.define.of(r, m) }

// Whole says that the measure is a number of things, printed without decimals.
func (m Measure) Whole() bool { return m.define.summary == total }

// summary says what stands for all queries.
type summary uint8

const (
	average   summary = iota
	total             // the sum: numbers of things
	geometric         // exp of the mean of log max(value, 1e-5); not printed by query
	text              // runid (summary only) and relstring (queries only)
)

// definition is a measure before its parameters are known.
type definition struct {
	name     string
	summary  summary
	cuts     []float64 // the cuts by default: each gives a number of its own
	shares   bool      // cuts are shares, not numbers of documents
	args     []float64 // parameters by default: together they give one number
	graded   bool      // takes gains: GRADE=GAIN,...
	since    Precision // Double: trec_eval 10.0 has it, 9.0.8 not
	ours     bool      // trec_eval does not have it
	official bool
	of       func(Ranking, Measure) float64
}

var usualCuts = []float64{5, 10, 15, 20, 30, 100, 200, 500, 1000}

// definitions are trec_eval's measures in its order, and then ours.
var definitions = []definition{
	{name: "runid", summary: text, official: true},
	{name: "num_q", summary: total, official: true, of: func(Ranking, Measure) float64 { return 1 }},
	{name: "num_ret", summary: total, official: true, of: func(r Ranking, _ Measure) float64 { return float64(len(r.grades)) }},
	{name: "num_rel", summary: total, official: true, of: func(r Ranking, _ Measure) float64 { return float64(r.relevant) }},
	{name: "num_rel_ret", summary: total, official: true, of: func(r Ranking, _ Measure) float64 { return float64(len(r.found)) }},
	{name: "map", official: true, of: func(r Ranking, _ Measure) float64 { return r.AveragePrecision(0) }},
	{name: "gm_map", summary: geometric, official: true, of: func(r Ranking, _ Measure) float64 { return r.AveragePrecision(0) }},
	{name: "Rprec", official: true, of: func(r Ranking, _ Measure) float64 { return r.RPrecision() }},
	{name: "bpref", official: true, of: func(r Ranking, _ Measure) float64 { return r.BPref() }},
	{name: "recip_rank", official: true, of: func(r Ranking, _ Measure) float64 { return r.ReciprocalRank(0) }},
	{
		name: "iprec_at_recall", official: true, cuts: []float64{0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1}, shares: true,
		of: func(r Ranking, m Measure) float64 { return r.RecallPrecision(m.x) },
	},
	{name: "P", official: true, cuts: usualCuts, of: func(r Ranking, m Measure) float64 { return r.Precision(m.k) }},
	{name: "relstring", summary: text, args: []float64{10}},
	{name: "recall", cuts: usualCuts, of: func(r Ranking, m Measure) float64 { return r.Recall(m.k) }},
	{name: "infAP", of: func(r Ranking, _ Measure) float64 { return r.InferredAP() }},
	{name: "gm_bpref", summary: geometric, of: func(r Ranking, _ Measure) float64 { return r.BPref() }},
	{
		name: "Rprec_mult", cuts: []float64{.2, .4, .6, .8, 1, 1.2, 1.4, 1.6, 1.8, 2}, shares: true,
		of: func(r Ranking, m Measure) float64 {
			k := int(float64(m.x*float64(r.relevant)) + 0.9)
			return ratio(float64(r.within(max(k, 1))), float64(k))
		},
	},
	{name: "utility", args: []float64{1, -1, 0, 0}, of: utility},
	{name: "11pt_avg", args: []float64{0, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1}, of: func(r Ranking, m Measure) float64 {
		sum := 0.0
		for _, x := range m.args {
			sum += r.RecallPrecision(x)
		}
		return sum / float64(len(m.args))
	}},
	{name: "binG", of: func(r Ranking, _ Measure) float64 { return r.binaryGain() }},
	{name: "G", graded: true, of: func(r Ranking, m Measure) float64 { return r.normalizedGain(m.gains) }},
	{name: "ndcg", graded: true, of: func(r Ranking, m Measure) float64 { return r.ndcg(m.gains) }},
	{name: "ndcg_rel", graded: true, of: func(r Ranking, m Measure) float64 { return r.ndcgAtRelevant(m.gains) }},
	{name: "Rndcg", graded: true, of: func(r Ranking, m Measure) float64 { return r.ndcgAtLevels(m.gains) }},
	{name: "ndcg_cut", cuts: usualCuts, of: func(r Ranking, m Measure) float64 { return r.NDCG(m.k) }},
	{name: "map_cut", cuts: usualCuts, of: func(r Ranking, m Measure) float64 { return r.AveragePrecision(m.k) }},
	{name: "relative_P", cuts: usualCuts, of: func(r Ranking, m Measure) float64 {
		return ratio(float64(r.within(m.k)), float64(min(m.k, r.relevant)))
	}},
	{name: "success", cuts: []float64{1, 5, 10}, of: func(r Ranking, m Measure) float64 { return r.Success(m.k) }},
	{name: "set_P", of: func(r Ranking, _ Measure) float64 { return r.setPrecision() }},
	{name: "set_relative_P", of: func(r Ranking, _ Measure) float64 {
		return ratio(float64(len(r.found)), float64(min(len(r.grades), r.relevant)))
	}},
	{name: "set_recall", of: func(r Ranking, _ Measure) float64 { return r.Recall(0) }},
	{name: "set_map", of: func(r Ranking, _ Measure) float64 { return float64(r.setPrecision() * r.Recall(0)) }},
	{name: "set_F", args: []float64{1}, of: func(r Ranking, m Measure) float64 {
		p, q, x := r.setPrecision(), r.Recall(0), m.args[0]
		return ratio((x+1)*p*q, float64(x*p)+q)
	}},
	{name: "num_nonrel_judged_ret", summary: total, of: func(r Ranking, _ Measure) float64 { return float64(r.judged() - len(r.found)) }},
	{name: "rbp", since: Double, args: []float64{.9}, of: func(r Ranking, m Measure) float64 { return r.rankBiased(m.args[0], nil) }},
	{name: "rbp_resid", since: Double, args: []float64{.9}, of: rankBiasedResidue},
	{name: "unj", since: Double, cuts: []float64{5, 10, 20}, of: func(r Ranking, m Measure) float64 {
		n := 0
		for _, g := range r.grades[:min(m.k, len(r.grades))] {
			if g < 0 {
				n++
			}
		}
		return float64(n) / float64(m.k)
	}},
	{name: "mrr", ours: true, cuts: []float64{10}, of: func(r Ranking, m Measure) float64 { return r.ReciprocalRank(m.k) }},
	{name: "recall_cap", ours: true, cuts: []float64{10, 100, 1000}, of: func(r Ranking, m Measure) float64 { return r.CappedRecall(m.k) }},
}

func (r Ranking) setPrecision() float64 { return ratio(float64(len(r.found)), float64(len(r.grades))) }

// judged counts the retrieved documents with a grade of 0 or above.
func (r Ranking) judged() int {
	n := 0
	for _, g := range r.grades {
		if g >= 0 {
			n++
		}
	}
	return n
}

// utility is a*relevant retrieved + b*others retrieved + c*relevant missed + d*others missed.
func utility(r Ranking, m Measure) float64 {
	hit, retrieved := float64(len(r.found)), float64(len(r.grades))
	missed := float64(r.relevant) - hit
	rest := float64(r.documents) - retrieved - missed
	return float64(m.args[0]*hit) + float64(m.args[1]*(retrieved-hit)) + float64(m.args[2]*missed) + float64(m.args[3]*rest)
}

// rankBiasedResidue is what RBP could gain if every document without a grade, and every rank after the last, had the
// greatest gain; 0 where every document has a grade.
func rankBiasedResidue(r Ranking, m Measure) float64 {
	sum, weight, p := 0.0, 1.0, m.args[0]
	for _, g := range r.grades {
		if g < 0 {
			sum += weight
		}
		weight *= p
	}
	if sum == 0 {
		return 0
	}
	return weight + float64((1-p)*sum)
}

// nicknames are sets of measures.
func nickname(name string, p Precision) func(definition) bool {
	switch name {
	case "official":
		return func(d definition) bool { return d.official }
	case "all_trec":
		return func(d definition) bool { return !d.ours && d.since <= p }
	case "set":
		return func(d definition) bool {
			return d.name == "utility" || strings.HasPrefix(d.name, "set_") || d.name == "runid" || strings.HasPrefix(d.name, "num_") && d.official
		}
	}
	return nil
}

// ParseMeasures reads measures as trec_eval -m takes them: a name, perhaps with parameters after a point (ndcg_cut.10,
// P.5,10), a printed name (ndcg_cut_10), or official, set or all_trec (here of 9.0.8). They come in the order of
// trec_eval, which is that of its table, each once.
func ParseMeasures(names ...string) ([]Measure, error) { return parseMeasures(names, Single) }

func parseMeasures(names []string, p Precision) ([]Measure, error) {
	var out []Measure
	for _, name := range names {
		if in := nickname(name, p); in != nil {
			for i := range definitions {
				if in(definitions[i]) {
					out = append(out, definitions[i].defaults(i)...)
				}
			}
			continue
		}
		more, err := parseMeasure(name)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	slices.SortStableFunc(out, func(a, b Measure) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.k, b.k), cmp.Compare(a.x, b.x))
	})
	return slices.CompactFunc(out, func(a, b Measure) bool { return a.Name == b.Name }), nil
}

func parseMeasure(text string) ([]Measure, error) {
	find := func(name string, in func(definition) bool) int {
		return slices.IndexFunc(definitions, func(d definition) bool { return d.name == name && in(d) })
	}
	name, list, given := strings.Cut(text, ".")
	at := find(name, func(definition) bool { return true })
	if i := strings.LastIndexByte(text, '_'); at < 0 && i > 0 { // as printed: ndcg_cut_10, iprec_at_recall_0.10
		if at = find(text[:i], func(d definition) bool { return d.cuts != nil }); at >= 0 {
			list, given = text[i+1:], true
		}
	}
	if at < 0 {
		known := []string{"official", "set", "all_trec"}
		for _, d := range definitions {
			known = append(known, d.name)
		}
		if near := spelling.Nearest(name, known); near != "" {
			return nil, fmt.Errorf("measure %q is not known; did you mean %q?", text, near)
		}
		return nil, fmt.Errorf("measure %q is not known; known are %s", text, strings.Join(known, ", "))
	}
	d := &definitions[at]
	if !given {
		return d.defaults(at), nil
	}
	out, err := d.with(at, list)
	if err != nil {
		return nil, fmt.Errorf("measure %q: %w", text, err)
	}
	return out, nil
}

// defaults are the measures of a definition without parameters.
func (d *definition) defaults(order int) []Measure {
	if d.cuts == nil {
		return []Measure{{Name: d.name, define: d, order: order, args: d.args}}
	}
	var out []Measure
	for _, cut := range d.cuts {
		out = append(out, d.cut(order, cut))
	}
	return out
}

func (d *definition) cut(order int, cut float64) Measure {
	if d.shares {
		return Measure{Name: d.name + "_" + strconv.FormatFloat(cut, 'f', 2, 64), define: d, order: order, x: cut}
	}
	return Measure{Name: d.name + "_" + strconv.Itoa(int(cut)), define: d, order: order, k: int(cut)}
}

// with reads parameters between commas.
func (d *definition) with(order int, list string) ([]Measure, error) {
	words := strings.Split(list, ",")
	m := Measure{Name: d.name + "_" + list, define: d, order: order}
	switch {
	case d.graded:
		m.gains = gains{}
		for _, word := range words {
			grade, gain, _ := strings.Cut(word, "=")
			g, err := strconv.Atoi(grade)
			v, err2 := strconv.ParseFloat(gain, 64)
			if err != nil || err2 != nil {
				return nil, fmt.Errorf("found the gain %q; GRADE=GAIN is allowed", word)
			}
			m.gains[g] = v
		}
		return []Measure{m}, nil
	case d.args == nil && d.cuts == nil:
		return nil, fmt.Errorf("found the parameters %q; it takes none", list)
	}
	var values []float64
	for _, word := range words {
		v, err := strconv.ParseFloat(strings.TrimPrefix(word, "p="), 64)
		if err != nil {
			return nil, fmt.Errorf("found the parameter %q; a number is needed", word)
		}
		if d.cuts != nil && (d.shares && v < 0 || !d.shares && (v < 1 || v != float64(int(v)))) {
			return nil, fmt.Errorf("found the cut %q; a whole number from 1 is needed", word)
		}
		values = append(values, v)
	}
	if d.cuts == nil {
		if d.name != "11pt_avg" && len(values) != len(d.args) {
			return nil, fmt.Errorf("found %d parameters; %d are needed", len(values), len(d.args))
		}
		m.args = values
		return []Measure{m}, nil
	}
	var out []Measure
	for _, v := range values {
		out = append(out, d.cut(order, v))
	}
	return out, nil
}

// Measure returns a measure by one of the names that ParseMeasures takes.
func (r Ranking) Measure(name string) (float64, error) {
	m, err := ParseMeasures(name)
	if err != nil {
		return 0, err
	}
	if len(m) != 1 || m[0].define.of == nil {
		return 0, fmt.Errorf("measure %q is not one number", name)
	}
	return m[0].Of(r), nil
}
