package metric

// STS is semantic textual similarity: how well the similarity of X[i] and Y[i] follows Gold[i] (mteb's AbsTaskSTS).
// Scaling of the gold changes no correlation.
type STS struct {
	X, Y Rows // [N, width] each
	Gold []float64
}

// Main is cosine_spearman.
func (STS) Main() string { return "cosine_spearman" }

// Score has pearson and spearman of the model's own similarity (the cosine), and K_pearson and K_spearman for K =
// cosine, manhattan, euclidean and, beyond mteb, dot.
func (t STS) Score() (Scores, error) {
	if err := checkPair("x", "y", t.X, t.Y, len(t.Gold)); err != nil {
		return nil, err
	}
	out := Scores{}
	for _, kind := range similarities {
		values := kind.of.paired(t.X, t.Y)
		prefix := kind.name + "_"
		if kind.name == "similarity" {
			prefix = ""
		}
		out[prefix+"pearson"] = Pearson(values, t.Gold)
		out[prefix+"spearman"] = Spearman(values, t.Gold)
	}
	return out, nil
}
