package ops

import (
	"fmt"

	"gorgonia.org/tensor"
)

// rule collects what is wrong with the shapes of an op's inputs.
type rule struct{ err error }

func (r *rule) same(what string, got, want int) {
	if r.err == nil && got != want {
		r.err = fmt.Errorf("%s is %d, want %d", what, got, want)
	}
}

func (r *rule) shape(s ...int) (tensor.Shape, error) {
	if r.err != nil {
		return nil, r.err
	}
	return tensor.Shape(s), nil
}
