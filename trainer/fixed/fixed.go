// Package fixed sums gradients without an order: each shard's values are rounded to fixed point before anything
// is added, and integer addition is associative, so any partition, order or retry gives the same bits.
package fixed

// Sum is a sum of gradients in fixed point: value[i] = Values[i] * 2^-Exponents[tensor of i].
type Sum struct {
	Exponents []int32 // [tensors]
	Values    []int64 // [parameters], all tensors one after another, in tensor order
}
