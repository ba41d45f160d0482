package metric

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Agreement is how far a clustering agrees with labels. With the entropies H of both, their mutual information I, in
// natural logarithms, and E[I] over clusterings of the same sizes (scikit-learn):
//
//	homogeneity  = I / H(labels)          1 where H(labels) = 0
//	completeness = I / H(clusters)        1 where H(clusters) = 0
//	V = NMI      = 2 homogeneity completeness / (homogeneity + completeness)        0 where both are 0
//	AMI          = (I - E[I]) / ((H(labels) + H(clusters)) / 2 - E[I])
//	ARI          = the Rand index over pairs, corrected for chance
type Agreement struct {
	V, Homogeneity, Completeness, NMI, AMI, ARI float64
}

// Agree compares clusters with labels, both by arbitrary names.
func Agree[L, C cmp.Ordered](labels []L, clusters []C) (Agreement, error) {
	if len(labels) == 0 || len(labels) != len(clusters) {
		return Agreement{}, fmt.Errorf("compare %d labels with %d clusters", len(labels), len(clusters))
	}
	a, rows := numbered(labels)
	b, columns := numbered(clusters)
	table := make([][]int, rows)
	for i := range table {
		table[i] = make([]int, columns)
	}
	for i := range a {
		table[a[i]][b[i]]++
	}
	of, in := make([]int, rows), make([]int, columns)
	for i, row := range table {
		for j, n := range row {
			of[i] += n
			in[j] += n
		}
	}
	n := float64(len(labels))
	information := 0.0
	for i, row := range table {
		for j, both := range row {
			if both > 0 {
				information += float64(float64(both) / n * (math.Log(float64(both)/n) - math.Log(float64(of[i])/n) - math.Log(float64(in[j])/n)))
			}
		}
	}
	information = max(0, information)
	h, k := entropy(of, n), entropy(in, n)
	g := Agreement{Homogeneity: 1, Completeness: 1, ARI: adjustedRand(table, of, in, n)}
	if rows > 1 {
		g.Homogeneity = information / h
	}
	if columns > 1 {
		g.Completeness = information / k
	}
	g.V = ratio(2*g.Homogeneity*g.Completeness, g.Homogeneity+g.Completeness)
	g.NMI = g.V
	switch {
	case rows == 1 && columns == 1, rows == len(labels) && columns == len(labels): // the only clustering of its kind
		g.AMI = 1
		return g, nil
	case rows == 1 || columns == 1:
		return g, nil // nothing is told
	}
	expected := expectedInformation(of, in, len(labels))
	g.AMI = awayFromZero(information-expected) / awayFromZero((h+k)/2-expected)
	return g, nil
}

// awayFromZero keeps a difference of equal numbers, which is rounding, from deciding a quotient.
func awayFromZero(v float64) float64 {
	const epsilon = 1.0 / (1 << 52)
	if v < 0 {
		return min(v, -epsilon)
	}
	return max(v, epsilon)
}

// numbered gives each name a number, in the order of the names.
func numbered[T cmp.Ordered](names []T) (numbers []int, count int) {
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	at := make(map[T]int, len(sorted))
	for i, name := range sorted {
		at[name] = i
	}
	numbers = make([]int, len(names))
	for i, name := range names {
		numbers[i] = at[name]
	}
	return numbers, len(sorted)
}

func entropy(counts []int, n float64) float64 {
	sum := 0.0
	for _, c := range counts {
		if p := float64(c) / n; p > 0 {
			sum -= float64(p * math.Log(p))
		}
	}
	return sum
}

// expectedInformation is the mean mutual information of two labelings with these counts, drawn at random (Vinh, Epps,
// Bailey, "Information theoretic measures for clusterings comparison", JMLR 11, 2010, eq. 24a):
//
//	sum over i, j, m of  m/n log(n m / (a_i b_j))  a_i! b_j! (n-a_i)! (n-b_j)! / (n! m! (a_i-m)! (b_j-m)! (n-a_i-b_j+m)!)
func expectedInformation(a, b []int, n int) float64 {
	factorial := make([]float64, n+1) // logarithms
	for i := range factorial {
		factorial[i], _ = math.Lgamma(float64(i) + 1)
	}
	sum, total := 0.0, float64(n)
	for _, x := range a {
		for _, y := range b {
			fixed := factorial[x] + factorial[y] + factorial[n-x] + factorial[n-y] - factorial[n]
			for m := max(1, x+y-n); m <= min(x, y); m++ {
				p := math.Exp(fixed - factorial[m] - factorial[x-m] - factorial[y-m] - factorial[n-x-y+m])
				share := float64(m) / total
				sum += float64(share * (math.Log(share) - math.Log(float64(x)/total) - math.Log(float64(y)/total)) * p)
			}
		}
	}
	return sum
}

// adjustedRand is, with pairs of rows counted as together or apart in both,
//
//	2 (tp tn - fn fp) / ((tp + fn)(fn + tn) + (tp + fp)(fp + tn))        1 where fn = fp = 0
func adjustedRand(table [][]int, of, in []int, n float64) float64 {
	var cells, rows, columns float64 // sums of squares
	for i, row := range table {
		rows += float64(of[i]) * float64(of[i])
		for _, c := range row {
			cells += float64(c) * float64(c)
		}
	}
	for _, c := range in {
		columns += float64(c) * float64(c)
	}
	tp, fp, fn := cells-n, columns-cells, rows-cells
	tn := float64(n*n) - columns - rows + cells
	if fn == 0 && fp == 0 {
		return 1
	}
	return 2 * (float64(tp*tn) - float64(fn*fp)) / (float64((tp+fn)*(fn+tn)) + float64((tp+fp)*(fp+tn)))
}
