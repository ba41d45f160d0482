//go:build !amd64

package isa

func detect() Level { return Portable }

// VNNI says whether the processor multiplies bytes (AVX-512 VNNI), and AVX512 is the level in use.
func VNNI() bool { return false }
