//go:build unix

package safetensors

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapFile maps a regular file read-only. What cannot be mapped (a pipe, some network file systems, an empty
// file) is read instead.
func mapFile(path string) (content []byte, mapped bool, unmap func() error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, nil, fmt.Errorf("safetensors: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, nil, fmt.Errorf("safetensors: %w", err)
	}
	if size := info.Size(); info.Mode().IsRegular() && size > 0 && size == int64(int(size)) {
		if b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED); err == nil {
			return b, true, func() error { return unix.Munmap(b) }, nil
		}
	}
	content, unmap, err = readFile(path)
	return content, false, unmap, err
}

// drop lets the pages that lie wholly within mapped bytes leave the process. An error only means that they stay.
func drop(b []byte) {
	page := uintptr(os.Getpagesize())
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	skip := -begin & (page - 1)
	if uintptr(len(b)) < skip+page {
		return
	}
	_ = unix.Madvise(b[skip:skip+(uintptr(len(b))-skip)&^(page-1)], unix.MADV_DONTNEED)
}
