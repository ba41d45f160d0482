package isa

import "golang.org/x/sys/cpu"

// detect reads CPUID and the operating system's XCR0 (through x/sys/cpu, which honours both).
func detect() Level {
	x := cpu.X86
	if !(x.HasAVX && x.HasAVX2 && x.HasFMA) {
		return Portable
	}
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL {
		return AVX512
	}
	return AVX2
}

// VNNI says whether the processor multiplies bytes (AVX-512 VNNI), and AVX512 is the level in use.
func VNNI() bool { return cpu.X86.HasAVX512VNNI && Active() == AVX512 }
