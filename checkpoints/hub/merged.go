package hub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/counterpoint-ml/counterpoint/checkpoints/safetensors"
)

// Merged is a model with an adapter merged into it. Adapted tensors are F32 whatever the base stores.
type Merged struct {
	safetensors.Tensors // the base
	adapter             *Adapter
	modules             map[string]*module // by the base's tensor
	replaced            map[string]string
}

// Adapted reports whether the adapter changes a tensor.
func (m *Merged) Adapted(name string) bool { return m.modules[name] != nil || m.replaced[name] != "" }

// Info implements safetensors.Tensors. Begin and End are the base's.
func (m *Merged) Info(name string) (safetensors.Info, bool) {
	info, ok := m.Tensors.Info(name)
	if ok && m.Adapted(name) {
		info.DType = safetensors.F32
	}
	return info, ok
}

// Bytes implements safetensors.Tensors.
func (m *Merged) Bytes(name string) ([]byte, error) {
	if !m.Adapted(name) {
		return m.Tensors.Bytes(name)
	}
	values, err := m.Float32(nil, name)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
	}
	return out, nil
}

// Float32 implements safetensors.Tensors.
func (m *Merged) Float32(dst []float32, name string) ([]float32, error) {
	if key := m.replaced[name]; key != "" {
		return m.adapter.tensors.Float32(dst, key)
	}
	at := len(dst)
	dst, err := m.Tensors.Float32(dst, name)
	if err != nil || m.modules[name] == nil {
		return dst, err
	}
	if err := m.adapter.add(m.modules[name], dst[at:]); err != nil {
		return dst, fmt.Errorf("merge %s: %w", name, err)
	}
	return dst, nil
}

// Close implements safetensors.Tensors.
func (m *Merged) Close() error { return errors.Join(m.Tensors.Close(), m.adapter.Close()) }

// add is W [out, in] += scale * (B A), rounded where PEFT rounds in float32: the product, its scaling, the sum. The
// product itself is added up in float64, so that it depends on no order of a BLAS.
func (a *Adapter) add(m *module, w []float32) error {
	down, err := a.tensors.Float32(nil, m.a)
	if err != nil {
		return err
	}
	up, err := a.tensors.Float32(nil, m.b)
	if err != nil {
		return err
	}
	r := m.rank
	in, rows := len(down)/r, len(up)/r
	scale := float32(m.scale)
	var group sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), rows)
	for worker := range workers {
		group.Go(func() {
			sum := make([]float64, in)
			for o := worker; o < rows; o += workers {
				clear(sum)
				for k := range r {
					b := float64(up[o*r+k])
					for j, v := range down[k*in : (k+1)*in] {
						sum[j] += b * float64(v)
					}
				}
				row := w[o*in : (o+1)*in]
				for j, s := range sum {
					row[j] += float32(float32(s) * scale)
				}
			}
		})
	}
	group.Wait()
	return nil
}
