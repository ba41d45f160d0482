package safetensors

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sort"
)

// Tensor is one tensor to be written, from exactly one of Values, Wide, Integers and Raw.
type Tensor struct {
	Name  string
	Shape []int

	Values   []float32 // stored as F32
	Wide     []float64 // stored as F64
	Integers []int64   // stored as I64
	Raw      []byte    // stored as it is, of type DType
	DType    DType     // of Raw only
}

func (t *Tensor) stored() (DType, int) {
	switch {
	case t.DType != "":
		return t.DType, len(t.Raw)
	case t.Wide != nil:
		return F64, 8 * len(t.Wide)
	case t.Integers != nil:
		return I64, 8 * len(t.Integers)
	}
	return F32, 4 * len(t.Values)
}

// Write writes a file. The bytes depend on the tensors and the metadata only, not on the order of the slice: as
// in the reference implementation, wide types come first (so that data are aligned), then names in byte order,
// and the header is padded with blanks to a multiple of eight. format=pt is added to the metadata, without
// which older versions of transformers refuse a file.
func Write(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	sorted := append([]Tensor(nil), tensors...)
	sort.SliceStable(sorted, func(i, j int) bool {
		a, _ := sorted[i].stored()
		b, _ := sorted[j].stored()
		if a.Size() != b.Size() {
			return a.Size() > b.Size()
		}
		return sorted[i].Name < sorted[j].Name
	})
	text, err := encodeHeader(sorted, metadata)
	if err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	out := bufio.NewWriterSize(w, 1<<16)
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(text)))
	out.Write(length[:]) // bufio keeps the first error for Flush
	out.Write(text)
	for i := range sorted {
		if err := sorted[i].encode(out); err != nil {
			return fmt.Errorf("write safetensors: tensor %q: %w", sorted[i].Name, err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	return nil
}

func encodeHeader(sorted []Tensor, metadata map[string]string) ([]byte, error) {
	all := map[string]string{"format": "pt"}
	for k, v := range metadata {
		all[k] = v
	}
	meta, err := json.Marshal(all) // sorts its keys
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, `{"__metadata__":%s`, meta)
	offset := int64(0)
	seen := make(map[string]bool, len(sorted))
	for i := range sorted {
		t := &sorted[i]
		dtype, size := t.stored()
		if seen[t.Name] || t.Name == "__metadata__" {
			return nil, fmt.Errorf("tensor name %q is used twice or reserved", t.Name)
		}
		seen[t.Name] = true
		info := Info{DType: dtype, Shape: t.Shape, Begin: offset, End: offset + int64(size)}
		if dtype.Size() == 0 {
			return nil, fmt.Errorf("tensor %q: unknown dtype %q", t.Name, dtype)
		}
		if err := info.checkSize(); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, err
		}
		shape, err := json.Marshal(append([]int{}, t.Shape...))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&text, `,%s:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, name, dtype, shape, info.Begin, info.End)
		offset = info.End
	}
	text.WriteByte('}')
	for text.Len()%8 != 0 {
		text.WriteByte(' ')
	}
	return text.Bytes(), nil
}

func (t *Tensor) encode(out *bufio.Writer) (err error) {
	if t.DType != "" { // perhaps of a mapped file
		defer onFault(func(at uintptr) {
			err = fmt.Errorf("page fault at %#x: the file that it is from changed or its disk failed", at)
		})()
		_, err = out.Write(t.Raw)
		return err
	}
	var b [8]byte
	for _, v := range t.Values {
		binary.LittleEndian.PutUint32(b[:4], math.Float32bits(v))
		if _, err := out.Write(b[:4]); err != nil {
			return err
		}
	}
	for _, v := range t.Wide {
		binary.LittleEndian.PutUint64(b[:], math.Float64bits(v))
		if _, err := out.Write(b[:]); err != nil {
			return err
		}
	}
	for _, v := range t.Integers {
		binary.LittleEndian.PutUint64(b[:], uint64(v))
		if _, err := out.Write(b[:]); err != nil {
			return err
		}
	}
	return nil
}
