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
