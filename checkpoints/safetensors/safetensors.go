// Package safetensors reads and writes the safetensors format (format 0.x as of the library's version 0.8): a
// little-endian u64 header length, a JSON header that names each tensor's type, shape and byte range, and the
// data without holes or overlaps. It also reads sharded folders with model.safetensors.index.json.
//
// Nothing is allocated from a length that was not first compared with the size of the file.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
)

// Tensors is what a file and a folder of shards have in common. All methods may be called concurrently.
type Tensors interface {
	// Names returns the names of all tensors, sorted.
	Names() []string
	// Info describes one tensor; ok is false if there is none of that name.
	Info(name string) (info Info, ok bool)
	// Bytes returns the stored bytes of a tensor: little-endian, row-major, possibly unaligned. They must not be
	// changed, and not be used after Close.
	Bytes(name string) ([]byte, error)
	// Float32 appends a tensor's values to dst: F32 as stored, F16 and BF16 widened exactly, F64 rounded to
	// nearest (a finite value that would become infinite is an error). Other types are refused.
	Float32(dst []float32, name string) ([]float32, error)
	// Close releases the memory map. Close once, after the last use.
	Close() error
}

// Info describes one tensor of a file.
type Info struct {
	Name  string
	DType DType
	Shape []int // empty for a scalar
	Begin int64 // first byte, counted from the start of the data
	End   int64 // one past the last byte
}

// Elements returns the product of the shape, 1 for a scalar.
func (i Info) Elements() int {
	n := 1
	for _, d := range i.Shape {
		n *= d
	}
	return n
}

// File is one safetensors file.
type File struct {
	name     string
	tensors  map[string]Info
	names    []string
	metadata map[string]string
	data     []byte // after the header
	mapped   bool   // data is a memory map
	unmap    func() error
}

// maxHeader is the reference implementation's limit.
const maxHeader = 100_000_000

// Open maps the file at path (or reads it, where mapping is not possible) and checks its header completely. The
// error names the file and the fault.
func Open(path string) (*File, error) {
	content, mapped, unmap, err := mapFile(path)
	if err != nil {
		return nil, err
	}
	f, err := Parse(path, content)
	if err != nil {
		_ = unmap() // the parse error says more
		return nil, err
	}
	f.mapped, f.unmap = mapped, unmap
	return f, nil
}

// Parse reads a file's content that is already in memory; name is used in errors. The result refers to content.
func Parse(name string, content []byte) (*File, error) {
	f := &File{name: name, unmap: func() error { return nil }}
	if err := f.parse(content); err != nil {
		return nil, fmt.Errorf("safetensors %s: %w", name, err)
	}
	return f, nil
}

func (f *File) parse(content []byte) error {
	size := uint64(len(content))
	if size < 8 {
		return fmt.Errorf("%d bytes, not even a header length%s", size, lookalike(content))
	}
	length := binary.LittleEndian.Uint64(content)
	if length > size-8 {
		return fmt.Errorf("header length %d, but only %d bytes follow it%s", length, size-8, lookalike(content))
	}
	if length > maxHeader {
		return fmt.Errorf("header length %d, at most %d allowed", length, maxHeader)
	}
	header := content[8 : 8+length]
	f.data = content[8+length:]
	h, err := parseHeader(header)
	if err != nil {
		return err
	}
	f.tensors, f.metadata = h.tensors, h.metadata
	return f.checkLayout()
}

// checkLayout sees to it that the tensors cover the data exactly: no hole, no overlap, nothing behind the last.
func (f *File) checkLayout() error {
	order := make([]Info, 0, len(f.tensors))
	for _, info := range f.tensors {
		order = append(order, info)
		f.names = append(f.names, info.Name)
	}
	sort.Strings(f.names)
	sort.Slice(order, func(i, j int) bool {
		a, b := order[i], order[j]
		if a.Begin != b.Begin {
			return a.Begin < b.Begin
		}
		if a.End != b.End {
			return a.End < b.End
		}
		return a.Name < b.Name
	})
	end, last := int64(0), ""
	for _, t := range order {
		switch {
		case t.Begin < end:
			return fmt.Errorf("tensor %q begins at %d, inside tensor %q that ends at %d", t.Name, t.Begin, last, end)
		case t.Begin > end:
			return fmt.Errorf("tensor %q begins at %d, but the data before it end at %d: a hole", t.Name, t.Begin, end)
		case t.End > int64(len(f.data)):
			return fmt.Errorf("tensor %q ends at %d, but the file has only %d bytes of data: truncated", t.Name, t.End, len(f.data))
		}
		end, last = t.End, t.Name
	}
	if end != int64(len(f.data)) {
		return fmt.Errorf("%d bytes after the last tensor", int64(len(f.data))-end)
	}
	return nil
}

// lookalike names what people download by mistake.
func lookalike(content []byte) string {
	switch {
	case bytes.HasPrefix(content, []byte("version https://git-lfs")):
		return ": this is a Git LFS pointer, not the file it points to (git lfs pull)"
	case bytes.HasPrefix(bytes.TrimSpace(content), []byte("<")):
		return ": this looks like an HTML page"
	case bytes.HasPrefix(content, []byte("PK")), len(content) > 1 && content[0] == 0x80 && content[1] < 6:
		return ": this looks like a PyTorch .bin (pickle), which is not read: convert it to safetensors"
	}
	return ""
}

// Names implements Tensors.
func (f *File) Names() []string { return append([]string(nil), f.names...) }

// Info implements Tensors.
func (f *File) Info(name string) (Info, bool) {
	info, ok := f.tensors[name]
	return info, ok
}

// Metadata returns the header's __metadata__, nil if it has none.
func (f *File) Metadata() map[string]string { return f.metadata }

// Bytes implements Tensors.
func (f *File) Bytes(name string) ([]byte, error) {
	_, b, err := f.find(name)
	return b, err
}

func (f *File) find(name string) (Info, []byte, error) {
	info, ok := f.tensors[name]
	if !ok {
		return Info{}, nil, fmt.Errorf("safetensors %s: no tensor %q", f.name, name)
	}
	return info, f.data[info.Begin:info.End:info.End], nil
}

// Close implements Tensors.
func (f *File) Close() error {
	f.data = nil
	unmap := f.unmap
	f.unmap = func() error { return nil }
	return unmap()
}
