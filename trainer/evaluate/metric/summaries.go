package metric

import "fmt"

// Summaries is summarisation: whether machine summaries that people liked are those near to a human summary (mteb's
// AbsTaskSummarization).
type Summaries struct {
	Documents []Summary
}

// Summary has the summaries of one document, and how people graded the machine's.
type Summary struct {
	Human, Machine Rows
	Gold           []float64 // of each machine summary
}

// Main is cosine_spearman.
func (Summaries) Main() string { return "cosine_spearman" }

// Score has pearson and spearman (the model's own similarity, the cosine), and cosine_* and dot_*: of the grades with
// each machine summary's greatest similarity to a human one, by document, and averaged. Documents whose grades, or
// whose similarities, are all equal are left out.
func (t Summaries) Score() (Scores, error) {
	out := Scores{}
	n := 0
	for i, doc := range t.Documents {
		if err := doc.check(); err != nil {
			return nil, fmt.Errorf("document %d: %w", i, err)
		}
		cosine, dot := doc.closest(Cosine), doc.closest(Dot)
		if constant(doc.Gold) || constant(cosine) || constant(dot) {
			continue
		}
		n++
		for name, values := range map[string][]float64{"": cosine, "cosine_": cosine, "dot_": dot} {
			out[name+"pearson"] += Pearson(doc.Gold, values)
			out[name+"spearman"] += Spearman(doc.Gold, values)
		}
	}
	if n == 0 {
		return nil, fmt.Errorf("summaries: none of %d documents has grades and similarities that differ", len(t.Documents))
	}
	for name := range out {
		out[name] /= float64(n)
	}
	return out, nil
}

func (s Summary) check() error {
	if s.Human.Width != s.Machine.Width {
		return fmt.Errorf("human and machine: widths %d and %d differ", s.Human.Width, s.Machine.Width)
	}
	if err := s.Human.check("human", s.Human.Len()); err != nil {
		return err
	}
	return s.Machine.check("machine", len(s.Gold))
}

// closest is each machine summary's greatest similarity to a human one.
func (s Summary) closest(of Similarity) []float64 {
	out := make([]float64, s.Machine.Len())
	for i := range out {
		for j := range s.Human.Len() {
			if v := of(s.Machine.Row(i), s.Human.Row(j)); j == 0 || v > out[i] {
				out[i] = v
			}
		}
	}
	return out
}
