package cpu

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped returns anonymous memory of the system and what gives it back; nil where it is not worth a map. It is resident
// from its first use on.
func mapped(bytes int64) (*byte, func(), error) {
	const least = 1 << 20
	if bytes < least {
		return nil, nil, nil
	}
	b, err := unix.Mmap(-1, 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, nil, err
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // a system without large pages does without
	return unsafe.SliceData(b), func() { _ = unix.Munmap(b) }, nil
}
