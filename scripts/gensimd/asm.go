package main

import (
	"fmt"
	"strings"
)

// asm writes one file of Go assembly for one width of vector. A vector register is an int, anything else of an
// instruction is text.
type asm struct {
	strings.Builder
	wide   bool // AVX-512: 16 floats, mask registers; else AVX2: 8 floats
	consts []constant
	tables []table
	known  map[string]bool
	labels int
}

// constant is a vector of one 32-bit (or 64-bit) word, repeated, in read-only memory: an operand of any instruction.
type constant struct {
	name string
	word uint64
	size int // bytes of the word
}

// table is a list of 32-bit words in read-only memory.
type table struct {
	name  string
	words []uint32
}

// lanes is the number of floats of a vector.
func (a *asm) lanes() int {
	if a.wide {
		return 16
	}
	return 8
}

// bytes is the size of a vector.
func (a *asm) bytes() int { return 4 * a.lanes() }

// suffix ends the names of functions.
func (a *asm) suffix() string {
	if a.wide {
		return "AVX512"
	}
	return "AVX2"
}

func (a *asm) reg(i int) string {
	if a.wide {
		return fmt.Sprintf("Z%d", i)
	}
	return fmt.Sprintf("Y%d", i)
}

func half(i int) string    { return fmt.Sprintf("Y%d", i) } // the lower 32 bytes
func quarter(i int) string { return fmt.Sprintf("X%d", i) } // the lower 16 bytes

func (a *asm) operand(x any) string {
	if i, ok := x.(int); ok {
		return a.reg(i)
	}
	return x.(string)
}

// op writes an instruction, operands in Go's order: sources first, destination last.
func (a *asm) op(name string, operands ...any) {
	text := make([]string, len(operands))
	for i, x := range operands {
		text[i] = a.operand(x)
	}
	fmt.Fprintf(a, "\t%s %s\n", name, strings.Join(text, ", "))
}

func (a *asm) label(name string) { fmt.Fprintf(a, "%s:\n", name) }

// fresh returns a label used nowhere else in the file.
func (a *asm) fresh(name string) string {
	a.labels++
	return fmt.Sprintf("%s%d", name, a.labels)
}

// word returns the operand of a vector whose 32-bit words are all w.
func (a *asm) word(name string, w uint32) string { return a.constant(constant{name, uint64(w), 4}) }

// word64 returns the operand of a vector whose 64-bit words are all w.
func (a *asm) word64(name string, w uint64) string { return a.constant(constant{name, w, 8}) }

func (a *asm) constant(c constant) string {
	if a.known == nil {
		a.known = map[string]bool{}
	}
	if !a.known[c.name] {
		a.known[c.name] = true
		a.consts = append(a.consts, c)
	}
	return c.name + "<>(SB)"
}

// data writes the constants.
func (a *asm) data() string {
	var b strings.Builder
	for _, c := range a.consts {
		for at := 0; at < a.bytes(); at += c.size {
			fmt.Fprintf(&b, "DATA %s<>+%d(SB)/%d, $0x%0*x\n", c.name, at, c.size, 2*c.size, c.word)
		}
		fmt.Fprintf(&b, "GLOBL %s<>(SB), RODATA|NOPTR, $%d\n\n", c.name, a.bytes())
	}
	for _, t := range a.tables {
		for i, w := range t.words {
			fmt.Fprintf(&b, "DATA %s<>+%d(SB)/4, $0x%08x\n", t.name, 4*i, w)
		}
		fmt.Fprintf(&b, "GLOBL %s<>(SB), RODATA|NOPTR, $%d\n\n", t.name, 4*len(t.words))
	}
	if !a.wide {
		for i := range 16 {
			word := "0xffffffff"
			if i >= 8 {
				word = "0x00000000"
			}
			fmt.Fprintf(&b, "DATA tailMask<>+%d(SB)/4, $%s\n", 4*i, word)
		}
		b.WriteString("GLOBL tailMask<>(SB), RODATA|NOPTR, $64\n\n")
	}
	return b.String()
}

// tailRegister is the vector that holds the tail's mask on AVX2; on AVX-512 it is K1.
const tailRegister = 15

// setTail makes the mask of the first `count` lanes (a general register, 1 .. lanes); it uses DX and leaves count.
func (a *asm) setTail(count string) {
	if a.wide {
		if count != "CX" {
			a.op("MOVQ", count, "CX")
		}
		a.op("MOVL", "$1", "DX")
		a.op("SHLL", "CX", "DX")
		a.op("DECL", "DX")
		a.op("KMOVW", "DX", "K1")
		return
	}
	a.op("LEAQ", "tailMask<>+32(SB)", "DX")
	if count != "CX" {
		a.op("MOVQ", count, "CX")
	}
	a.op("SHLQ", "$2", "CX")
	a.op("SUBQ", "CX", "DX")
	a.op("SHRQ", "$2", "CX")
	a.op("VMOVDQU", "(DX)", tailRegister)
}

// load reads a vector; of a tail, zeros beyond it.
func (a *asm) load(mem string, dst int, tail bool) {
	switch {
	case !tail:
		a.op("VMOVUPS", mem, dst)
	case a.wide:
		a.op("VMOVUPS.Z", mem, "K1", dst)
	default:
		a.op("VMASKMOVPS", mem, tailRegister, dst)
	}
}

// store writes a vector, of a tail only that.
func (a *asm) store(src int, mem string, tail bool) {
	switch {
	case !tail:
		a.op("VMOVUPS", src, mem)
	case a.wide:
		a.op("VMOVUPS", src, "K1", mem)
	default:
		a.op("VMASKMOVPS", src, tailRegister, mem)
	}
}

// keepTail sets the lanes beyond a tail to zero.
func (a *asm) keepTail(r int, tail bool) {
	if !tail {
		return
	}
	if a.wide {
		a.op("VMOVAPS.Z", r, "K1", r)
	} else {
		a.op("VANDPS", tailRegister, r, r)
	}
}

func (a *asm) zero(r int) {
	if a.wide {
		a.op("VPXORD", r, r, r)
	} else {
		a.op("VXORPS", r, r, r)
	}
}

// loop runs body on the CX floats from byte offset AX = 0, a vector at a time, the last part as a tail. With unroll > 1
// body is called with numbers 0 .. unroll-1 in the main loop, so that reductions keep several sums.
func (a *asm) loop(unroll int, body func(number, shift int, tail bool)) {
	main, single, one, rest, done := a.fresh("unrolled"), a.fresh("single"), a.fresh("one"), a.fresh("rest"), a.fresh("done")
	w := a.lanes()
	a.op("XORQ", "AX", "AX")
	if unroll > 1 {
		a.op("SUBQ", fmt.Sprintf("$%d", unroll*w), "CX")
		a.op("JLT", single)
		a.label(main)
		for i := range unroll {
			body(i, i*a.bytes(), false)
		}
		a.op("ADDQ", fmt.Sprintf("$%d", unroll*a.bytes()), "AX")
		a.op("SUBQ", fmt.Sprintf("$%d", unroll*w), "CX")
		a.op("JGE", main)
		a.label(single)
		a.op("ADDQ", fmt.Sprintf("$%d", unroll*w), "CX")
	}
	a.op("SUBQ", fmt.Sprintf("$%d", w), "CX")
	a.op("JLT", rest)
	a.label(one)
	body(0, 0, false)
	a.op("ADDQ", fmt.Sprintf("$%d", a.bytes()), "AX")
	a.op("SUBQ", fmt.Sprintf("$%d", w), "CX")
	a.op("JGE", one)
	a.label(rest)
	a.op("ADDQ", fmt.Sprintf("$%d", w), "CX")
	a.op("JEQ", done)
	a.setTail("CX")
	body(0, 0, true)
	a.label(done)
}

// at is the operand of base plus the loop's offset.
func at(base string, shift int) string {
	if shift == 0 {
		return fmt.Sprintf("(%s)(AX*1)", base)
	}
	return fmt.Sprintf("%d(%s)(AX*1)", shift, base)
}

// reduce folds a vector into its lowest lane with an instruction; it uses register t.
func (a *asm) reduce(name string, r, t int) {
	if a.wide {
		a.op("VEXTRACTF64X4", "$1", r, half(t))
		a.op(name, half(t), half(r), half(r))
	}
	a.op("VEXTRACTF128", "$1", half(r), quarter(t))
	a.op(name, quarter(t), quarter(r), quarter(r))
	a.op("VPERMILPS", "$0x4e", quarter(r), quarter(t))
	a.op(name, quarter(t), quarter(r), quarter(r))
	a.op("VPERMILPS", "$0xb1", quarter(r), quarter(t))
	a.op(name, quarter(t), quarter(r), quarter(r))
}

func (a *asm) end() {
	a.op("VZEROUPPER")
	a.op("RET")
	a.WriteString("\n")
}
