package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// table lines columns up, and makes them fit the terminal: columns that may be cut are, the longest first.
type table struct {
	head  []column
	rows  [][]string
	width int // of the terminal; 0 = any
}

type column struct {
	name  string
	right bool // numbers
	least int  // characters that a cut leaves; 0 = it is not cut
}

func newTable(w io.Writer, head ...column) *table { return &table{head: head, width: terminalWidth(w)} }

// terminalWidth returns the columns of the terminal that w is; 0 = it is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

const tableGap = 2

// write prints the table; columns that are empty in every row are left out.
func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.head))
	for _, r := range t.rows {
		for i, cell := range r {
			if n := utf8.RuneCountInString(cell); n > 0 {
				widths[i] = max(widths[i], n, utf8.RuneCountInString(t.head[i].name))
			}
		}
	}
	t.fit(widths)
	names := make([]string, len(t.head))
	for i, c := range t.head {
		names[i] = c.name
	}
	for _, r := range append([][]string{names}, t.rows...) {
		var line strings.Builder
		for i, cell := range r {
			if widths[i] == 0 {
				continue
			}
			cell = cut(cell, widths[i])
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if t.head[i].right {
				cell = pad + cell
			} else {
				cell += pad
			}
			line.WriteString(cell + strings.Repeat(" ", tableGap))
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// fit narrows the widest column that may be cut, again and again, until the line fits or nothing more can be cut.
func (t *table) fit(widths []int) {
	if t.width == 0 {
		return
	}
	for {
		sum, widest := -tableGap, -1
		for i, n := range widths {
			if n == 0 {
				continue
			}
			sum += n + tableGap
			if least := t.head[i].least; least > 0 && n > least && (widest < 0 || n > widths[widest]) {
				widest = i
			}
		}
		if sum <= t.width || widest < 0 {
			return
		}
		widths[widest]--
	}
}

// cut shortens a text to n characters, the last of which then says so.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:max(n-1, 0)]) + "…"
}
