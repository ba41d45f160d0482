package encode

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/counterpoint-ml/counterpoint/data/parquet"
)

// A Parquet file ends with a description of all of it, so that it cannot be gone on with. Until every vector is there
// they are spooled: a record is the length of the id in JSON (noID for none), the id, and the vector.

const noID = math.MaxUint32

func appendSpool(dst []byte, id json.RawMessage, row []float32) []byte {
	if id == nil {
		dst = binary.LittleEndian.AppendUint32(dst, noID)
	} else {
		dst = append(binary.LittleEndian.AppendUint32(dst, uint32(len(id))), id...)
	}
	return appendLittle(dst, row)
}

// table turns the spool into the table at Out. Interrupted, it begins again.
func (s *Stream) table(spool *os.File) (err error) {
	if err := seek(spool, 0); err != nil {
		return err
	}
	out, err := os.Create(s.Out + ".partial.table")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Close(), remove(out.Name()))
		}
	}()
	w, err := parquet.NewWriter(out, []parquet.Column{{Name: "id", Kind: parquet.Text, Codec: "zstd"}, {Name: "embedding", Kind: parquet.Floats}})
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(spool, 1<<18)
	vector := make([]float32, s.Encoder.Width())
	raw := make([]byte, 4*len(vector))
	for {
		id, err := spooledID(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(in, raw); err != nil {
			return fmt.Errorf("read the spool: %w", err)
		}
		for i := range vector {
			vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
		if err := w.Write(id, vector); err != nil {
			return err
		}
	}
	if err := errors.Join(w.Close(), out.Sync()); err != nil {
		return err
	}
	return errors.Join(out.Close(), os.Rename(out.Name(), s.Out))
}

// spooledID returns a string, nil where the text had no id, or io.EOF at the end.
func spooledID(in io.Reader) (any, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err // io.EOF at the end of a record, else io.ErrUnexpectedEOF
	}
	n := binary.LittleEndian.Uint32(size[:])
	if n == noID {
		return nil, nil
	}
	if n > maxLine {
		return nil, fmt.Errorf("read the spool: an id of %d bytes", n)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(in, raw); err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	if raw[0] != '"' {
		return string(raw), nil
	}
	var id string
	err := json.Unmarshal(raw, &id)
	return id, err
}
