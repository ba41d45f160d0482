package main

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/counterpoint-ml/counterpoint/trainer/encode"
	"github.com/counterpoint-ml/counterpoint/trainer/engine/cpu"
)

// rounding is what the flags of a command say about 8-bit integers.
type rounding struct {
	int8  bool
	least float64
}

func (r *rounding) flags(f *pflag.FlagSet) {
	f.BoolVar(&r.int8, "int8", false, "weights and activations in 8 bits: faster, a quarter of the memory, vectors a little off")
	f.Float64Var(&r.least, "int8-cosine", 0.999, "of the first texts' vectors to those without --int8, on average: refuse below; 0: do not compare")
}

// device opens the processor, and asks for a comparison with the exact model if it is to round. free closes it.
func (r *rounding) device(threads int, o *encode.Options, stderr io.Writer) (dev *cpu.Device, free func(), err error) {
	if !(r.least >= 0 && r.least <= 1) {
		return nil, nil, fmt.Errorf("--int8-cosine %v: want 0 to 1", r.least)
	}
	if !r.int8 {
		if dev, err = cpu.New(threads); err != nil {
			return nil, nil, err
		}
		return dev, dev.Close, nil
	}
	if dev, err = cpu.NewInt8(threads); err != nil {
		return nil, nil, err
	}
	if r.least == 0 {
		return dev, dev.Close, nil
	}
	exact, err := cpu.New(threads)
	if err != nil {
		dev.Close()
		return nil, nil, err
	}
	o.Compare = &encode.Comparison{Device: exact, Least: r.least, Report: func(a encode.Agreement) {
		fmt.Fprintf(stderr, "8 bits: the cosine to the exact vectors of the first %s is %.5f on average, %.5f at least\n",
			plural(int64(a.Texts), "text", "texts"), a.Mean, a.Least)
	}}
	return dev, func() { dev.Close(); exact.Close() }, nil
}
