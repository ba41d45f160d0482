package parquet

import (
	"errors"
	"io"

	lib "github.com/parquet-go/parquet-go"
)

// column reads the values of one column of one row group, with one value of look-ahead.
type column struct {
	index  int
	path   string
	chunk  lib.ColumnChunk
	pages  lib.Pages
	page   lib.Page
	values lib.ValueReader
	buffer [64]lib.Value
	have   []lib.Value
}

// peek returns the next value, which stays valid until the column is peeked at again after a skip.
func (c *column) peek() (*lib.Value, error) {
	for len(c.have) == 0 {
		if c.values == nil {
			if c.pages == nil {
				c.pages = c.chunk.Pages()
			}
			page, err := c.pages.ReadPage()
			if err != nil {
				return nil, err
			}
			c.page, c.values = page, page.Values()
		}
		n, err := c.values.ReadValues(c.buffer[:])
		c.have = c.buffer[:n]
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if n == 0 {
			lib.Release(c.page)
			c.page, c.values = nil, nil
		}
	}
	return &c.have[0], nil
}

func (c *column) skip() { c.have = c.have[1:] }

func (c *column) close() {
	if c.page != nil {
		lib.Release(c.page)
		c.page, c.values, c.have = nil, nil, nil
	}
	if c.pages != nil {
		_ = c.pages.Close() // reading only
		c.pages = nil
	}
}

// column returns the path of a column.
func (f *field) column(leaf int) string {
	for len(f.fields) > 0 {
		for _, child := range f.fields {
			if leaf < child.leaf+child.leaves {
				f = child
				break
			}
		}
	}
	return f.path
}
