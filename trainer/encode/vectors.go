package encode

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Formats of vectors.
const (
	JSONL = "jsonl" // {"id": ..., "embedding": [...]} a line
	NPY   = "npy"   // a NumPy array of float32, [N, D]

	Parquet = "parquet" // a table with the columns id (text, perhaps null) and embedding (list of float32)
)

// Formats are the words allowed for Stream.Format.
var Formats = []string{JSONL, NPY, Parquet}

// npyHeader is the whole header's size: room for any number of rows, so that it can be written again at the end.
const npyHeader = 128

// header returns what a file of so many rows begins with.
func header(format string, rows int64, width int) []byte {
	if format != NPY {
		return nil
	}
	dict := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows, width)
	out := append([]byte("\x93NUMPY\x01\x00"), byte(npyHeader-10), 0)
	return append(out, dict+strings.Repeat(" ", npyHeader-len(out)-len(dict)-1)+"\n"...)
}

// writeRows appends rows [len(lines), width].
func writeRows(w io.Writer, format string, lines []Line, rows []float32, width int) (int64, error) {
	out := bufio.NewWriterSize(w, 1<<16)
	var buf []byte
	n := int64(0)
	for i, line := range lines {
		row := rows[i*width : (i+1)*width]
		switch buf = buf[:0]; format {
		case NPY:
			buf = appendLittle(buf, row)
		case Parquet:
			buf = appendSpool(buf, line.ID, row)
		default:
			buf = append(buf, '{')
			if line.ID != nil {
				buf = append(append(append(buf, `"id":`...), line.ID...), ',')
			}
			buf = append(buf, `"embedding":[`...)
			for j, v := range row {
				if j > 0 {
					buf = append(buf, ',')
				}
				buf = strconv.AppendFloat(buf, float64(v), 'g', -1, 32)
			}
			buf = append(buf, "]}\n"...)
		}
		n += int64(len(buf))
		if _, err := out.Write(buf); err != nil {
			return 0, err
		}
	}
	return n, out.Flush()
}
