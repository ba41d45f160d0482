package contrastive

import "math"

// Batch says which rows of the gathered embeddings are what, R rows in slot order: queries 0 .. B-1, the positive
// of query i at B+i, then every query's hard negatives. Documents are the rows from B on.
type Batch struct {
	Queries int      // B
	Docs    []uint64 // [R-B] identity of every document: equal texts have equal identities

	Negatives []int32 // [B] hard negatives of each query; the explicit loss reads it
}

// Rows returns R.
func (b Batch) Rows() int { return b.Queries + len(b.Docs) }

// Reference is the loss of a run in float64, by the formula and slowly. rows [R, D] are unit vectors, or, of the explicit
// loss, as they were pooled; grad [R, D] is dL/d rows with every row a free variable. With o.Dimensions D_k and weights
// w_k (Kusupati et al. 2022, "Matryoshka representation learning", equation 1),
//
//	L = sum_k w_k L_k(u_k),  u_k = the first D_k values of each row, divided by their length
//
// of which the explicit loss leaves the last step out.
func Reference(rows []float64, d int, b Batch, o Options) (loss float64, grad []float64) {
	one := func(rows []float64, d int) (float64, []float64) {
		if o.Explicit {
			return Explicit(rows, d, b.Negatives)
		}
		return infoNCE(rows, d, b, o)
	}
	if len(o.Dimensions) == 0 {
		return one(rows, d)
	}
	grad = make([]float64, len(rows))
	for k, short := range o.Dimensions {
		var cut []float64
		for at := 0; at < len(rows); at += d {
			cut = append(cut, rows[at:at+short]...)
		}
		var l float64
		var g []float64
		if o.Explicit {
			l, g = one(cut, short)
		} else {
			u, length := Unit(cut, short)
			l, g = one(u, short)
			g = UnitGrad(g, u, length, short)
		}
		loss += o.weight(k) * l
		for i := range b.Rows() {
			axpy(o.weight(k), g[i*short:(i+1)*short], grad[i*d:])
		}
	}
	return loss, grad
}

// infoNCE: rows [R, D] are unit vectors. With s_ij = <q_i, d_j>/tau and pi_ij = softmax_j(s_ij), van den Oord et al. 2018,
// equation 4, over all documents of the batch:
//
//	L        = -1/B sum_i log pi_ii
//	dL/ds_ij = (pi_ij - delta_ij) / B
//
// Symmetric is (L + L')/2, where L' exchanges queries and positives: row i of L' is the positive of query i against
// every query; hard negatives are in L only. Masked terms are left out of the softmax; the divisor stays B, and the mask has no gradient.
func infoNCE(rows []float64, d int, b Batch, o Options) (loss float64, grad []float64) {
	B, N := b.Queries, len(b.Docs)
	grad = make([]float64, len(rows))
	row := func(x []float64, i int) []float64 { return x[i*d : (i+1)*d] }
	direction := func(n int, anchor, candidate func(i int) int, weight float64) {
		s := make([]float64, n)
		for i := range B {
			a := row(rows, anchor(i))
			for j := range n {
				s[j] = dot(a, row(rows, candidate(j))) / o.Temperature
				if o.same(b.Docs, i, j) || i != j && o.above(dot(a, row(rows, candidate(j))), dot(a, row(rows, candidate(i)))) {
					s[j] = math.Inf(-1)
				}
			}
			lse := logSumExp(s)
			loss += weight * (lse - s[i]) / float64(B)
			for j := range n {
				g := math.Exp(s[j] - lse)
				if i == j {
					g--
				}
				g *= weight / float64(B) / o.Temperature
				axpy(g, row(rows, candidate(j)), row(grad, anchor(i)))
				axpy(g, a, row(grad, candidate(j)))
			}
		}
	}
	query, document := func(i int) int { return i }, func(j int) int { return B + j }
	if o.Symmetric {
		direction(N, query, document, 0.5)
		direction(B, document, query, 0.5)
	} else {
		direction(N, query, document, 1)
	}
	return loss, grad
}

// Explicit is RepLLaMA's loss in float64: every query against its own positive and its own hard negatives only, by
// dot products of rows divided by sqrt(D), without normalisation or temperature. counts [B] are the hard negatives
// of each query.
//
//	z_ij = <q_i, d_ij>/D;  L = 1/B sum_i (log sum_j exp(z_ij) - z_i0)
func Explicit(rows []float64, d int, counts []int32) (loss float64, grad []float64) {
	B := len(counts)
	grad = make([]float64, len(rows))
	row := func(x []float64, i int) []float64 { return x[i*d : (i+1)*d] }
	first := 2 * B
	for i, k := range counts {
		z := make([]float64, 1+k)
		at := func(j int) int { // row of candidate j
			if j == 0 {
				return B + i
			}
			return first + j - 1
		}
		for j := range z {
			z[j] = dot(row(rows, i), row(rows, at(j))) / float64(d)
		}
		lse := logSumExp(z)
		loss += (lse - z[0]) / float64(B)
		for j := range z {
			g := math.Exp(z[j] - lse)
			if j == 0 {
				g--
			}
			g /= float64(B) * float64(d)
			axpy(g, row(rows, at(j)), row(grad, i))
			axpy(g, row(rows, i), row(grad, at(j)))
		}
		first += int(k)
	}
	return loss, grad
}

// Unit returns u = x/|x| of every row of x [R, D] and the lengths.
func Unit(x []float64, d int) (u, length []float64) {
	u, length = make([]float64, len(x)), make([]float64, len(x)/d)
	for i := range length {
		r := x[i*d : (i+1)*d]
		length[i] = math.Sqrt(dot(r, r))
		axpy(1/length[i], r, u[i*d:(i+1)*d])
	}
	return u, length
}

// UnitGrad takes the gradient with respect to u through u = x/|x|:
//
//	dL/dx = (g - u <u, g>) / |x|
func UnitGrad(g, u, length []float64, d int) []float64 {
	out := make([]float64, len(g))
	for i, n := range length {
		gi, ui, to := g[i*d:(i+1)*d], u[i*d:(i+1)*d], out[i*d:(i+1)*d]
		axpy(1/n, gi, to)
		axpy(-dot(ui, gi)/n, ui, to)
	}
	return out
}

// CrossEntropy is the language-model losses in float64. Term p reads logits[position[p]] [V], predicts target[p] and
// counts with weight[p]; grad is with respect to all logits.
//
//	L = sum_p w_p (log sum_v exp(z_pv) - z_p,target)
func CrossEntropy(logits [][]float64, position, target []int32, weight []float64) (loss float64, grad [][]float64) {
	grad = make([][]float64, len(logits))
	for i := range grad {
		grad[i] = make([]float64, len(logits[i]))
	}
	for p, i := range position {
		z := logits[i]
		lse := logSumExp(z)
		loss += weight[p] * (lse - z[target[p]])
		for v := range z {
			grad[i][v] += weight[p] * math.Exp(z[v]-lse)
		}
		grad[i][target[p]] -= weight[p]
	}
	return loss, grad
}

// logSumExp subtracts the maximum, so that exp cannot overflow.
func logSumExp(s []float64) float64 {
	top := math.Inf(-1)
	for _, v := range s {
		top = max(top, v)
	}
	sum := 0.0
	for _, v := range s {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum)
}

func dot(a, b []float64) (s float64) {
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

// axpy adds k x to the first values of y.
func axpy(k float64, x, y []float64) {
	for i := range x {
		y[i] += k * x[i]
	}
}
